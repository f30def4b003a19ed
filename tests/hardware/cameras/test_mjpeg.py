from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.cameras.frame_source import BadFrame, Frame, decode_jpeg, encode_jpeg
from hardware.cameras.mjpeg import whole_jpeg

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
JPEG = encode_jpeg(IMAGE, 90)


def without_huffman_tables(jpeg: bytes) -> bytes:
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += jpeg[at:end] if jpeg[at + 1] != 0xC4 else b""
        at = end
    return kept + jpeg[at:]


def test_a_whole_jpeg_is_not_touched():
    assert whole_jpeg(JPEG) == JPEG


def test_padding_is_cut_off():
    assert whole_jpeg(JPEG + bytes(100)) == JPEG


def test_missing_huffman_tables_are_the_standards():
    stripped = without_huffman_tables(JPEG)
    assert len(stripped) < len(JPEG)
    assert np.array_equal(decode_jpeg(whole_jpeg(stripped)), decode_jpeg(JPEG))


@pytest.mark.parametrize(
    "data", [b"", b"nothing", JPEG[:-40], JPEG[10:], b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\xff\xd9"]
)
def test_what_is_not_whole_is_refused(data):
    with pytest.raises(BadFrame):
        whole_jpeg(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_rubbish_is_refused_and_nothing_else_happens(data):
    with contextlib.suppress(BadFrame):
        whole_jpeg(b"\xff\xd8" + data + b"\xff\xd9")


def test_a_frame_without_a_picture_and_a_damaged_one_are_refused():
    with pytest.raises(BadFrame, match="neither image nor JPEG"):
        Frame(1, 64, 48).rgb()
    with pytest.raises(BadFrame, match="no JPEG"):
        Frame(1, 64, 48, jpeg=b"nothing").rgb()
    with pytest.raises(BadFrame, match="no JPEG"):
        decode_jpeg(b"")


def test_a_cameras_own_jpeg_is_never_encoded_again():
    assert Frame(1, 64, 48, image=IMAGE, jpeg=JPEG).encoded(10) is JPEG
