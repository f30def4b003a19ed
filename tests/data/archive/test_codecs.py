import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from data.archive.codecs import Codec, CodecError
from robot_rl.core.specs import ArraySpec

FRAMES = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda size: stn.arrays(np.uint8, (*size, 3)))


def spec_of(frame):
    return ArraySpec(frame.shape, "uint8", "rgb")


@given(frame=FRAMES, name=st.sampled_from(["png", "raw"]))
def test_a_lossless_codec_gives_every_pixel_back(frame, name):
    codec = Codec.parse(name)
    assert codec.lossless
    assert (codec.decode(codec.encode(frame), spec_of(frame)) == frame).all()


@pytest.mark.parametrize("name", ["jpeg:80", "jpeg:90", "jpeg:95", "png", "raw"])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_no_codec_swaps_colours(name, channel):
    frame = np.full((32, 32, 3), 20, np.uint8)
    frame[..., channel] = 220
    codec = Codec.parse(name)
    assert np.abs(codec.decode(codec.encode(frame), spec_of(frame)).astype(int) - frame).max() <= 6


def test_a_transposed_view_is_encoded_as_it_looks():
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3).transpose(1, 0, 2)
    for name in ("png", "raw"):
        codec = Codec.parse(name)
        assert (codec.decode(codec.encode(frame), spec_of(frame)) == frame).all()


def test_better_jpeg_is_larger_and_closer():
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes, errors = [], []
    for quality in (50, 80, 90, 95, 100):
        codec = Codec.parse(f"jpeg:{quality}")
        data = codec.encode(frame)
        sizes.append(len(data))
        errors.append(np.abs(codec.decode(data, spec_of(frame)).astype(int) - frame).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


@given(name=st.sampled_from(["png", "raw", "jpeg:1", "jpeg:90", "jpeg:100"]))
def test_a_codec_is_named_as_it_is_parsed(name):
    assert str(Codec.parse(name)) == name


@pytest.mark.parametrize("name", ["", "jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:9.5", "png:3", "h264", "JPEG:90"])
def test_an_unknown_codec_is_refused_with_the_ones_there_are(name):
    with pytest.raises(CodecError, match=r"use jpeg:<quality 1-100> \(for example jpeg:90\), png or raw"):
        Codec.parse(name)


@pytest.mark.parametrize("name", ["jpeg:90", "png", "raw"])
def test_damaged_bytes_or_another_size_are_refused(name):
    frame = np.zeros((8, 8, 3), np.uint8)
    codec = Codec.parse(name)
    for data in (b"", b"not a picture"):
        with pytest.raises(CodecError):
            codec.decode(data, spec_of(frame))
    with pytest.raises(CodecError, match="wanted"):
        codec.decode(codec.encode(frame), ArraySpec((8, 9, 3), "uint8", "rgb"))
