"""A time on a screen is read from wherever a camera stands, and nothing is read where there is none."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.cameras.filmed_clock import CARD_COLUMNS, CARD_ROWS, EDGE_CELLS, shown_time
from hardware.cameras.pattern import COLUMNS, ROWS, STRIP, write_stamp

STAMP_NS = 1_700_000_123_456_789_012


def draw_card(stamp_ns, cell_px):
    """The card of a moment as the clock's page paints it. Shape (CARD_ROWS * cell_px, CARD_COLUMNS * cell_px, 3)."""
    card = np.full((CARD_ROWS * cell_px, CARD_COLUMNS * cell_px, 3), 255, np.uint8)
    card[cell_px:-cell_px, cell_px:-cell_px] = 0
    edge = EDGE_CELLS * cell_px
    stamped = np.zeros((round(ROWS * cell_px / STRIP), COLUMNS * cell_px, 3), np.uint8)
    write_stamp(stamped, stamp_ns)
    card[edge:-edge, edge:-edge] = stamped[: ROWS * cell_px]
    return card


def filmed(stamp_ns, size=(480, 640), *, corners, seed=0, noise=4.0, blur=0.8, gain=0.7, offset=30, jpeg=85):
    """A camera's picture of a screen: the card on a black page in a cluttered room."""
    generator = np.random.default_rng(seed)
    height, width = size
    coarse = generator.integers(20, 150, (height // 40, width // 40, 3), dtype=np.uint8)
    room = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    card = draw_card(stamp_ns, 20)
    page = cv2.copyMakeBorder(card, 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    across, down = CARD_COLUMNS * 20, CARD_ROWS * 20
    source = np.array([[30, 30], [30 + across, 30], [30 + across, 30 + down], [30, 30 + down]], np.float32)
    target = np.array(corners, np.float32) * [width, height]
    turn = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    screen = cv2.warpPerspective(page, turn, (width, height), flags=cv2.INTER_AREA)
    there = cv2.warpPerspective(np.ones(page.shape[:2], np.uint8), turn, (width, height)) > 0
    picture = np.where(there[..., None], screen * gain + offset, room).astype(np.float64)
    picture = cv2.GaussianBlur(picture, (0, 0), blur) + noise * generator.standard_normal(picture.shape)
    sharp = picture.clip(0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", sharp, [cv2.IMWRITE_JPEG_QUALITY, jpeg])[1], cv2.IMREAD_COLOR)


LEVEL = ((0.1, 0.2), (0.9, 0.2), (0.9, 0.6), (0.1, 0.6))
TILTED = ((0.15, 0.3), (0.85, 0.2), (0.9, 0.65), (0.12, 0.6))


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (720, 1280)])
@pytest.mark.parametrize("corners", [LEVEL, TILTED], ids=["level", "tilted"])
@pytest.mark.parametrize("turned", [0, 1, 2, 3])
def test_the_time_is_read_at_any_size_angle_and_side_up(size, corners, turned):
    picture = filmed(STAMP_NS, size, corners=corners)
    assert shown_time(np.ascontiguousarray(np.rot90(picture, turned))) == STAMP_NS


@settings(max_examples=40, deadline=None)
@given(
    stamp_ns=st.integers(0, 2**63),
    seed=st.integers(0, 1000),
    shake=st.lists(st.floats(-0.05, 0.05), min_size=8, max_size=8),
    gain=st.floats(0.4, 0.85),
)
def test_a_time_is_read_right_or_not_at_all(stamp_ns, seed, shake, gain):
    corners = np.array(TILTED) + np.array(shake).reshape(4, 2)
    read = shown_time(filmed(stamp_ns, corners=corners, seed=seed, gain=gain))
    assert read == stamp_ns


def test_a_generated_camera_shows_its_own_time():
    picture = np.full((240, 320, 3), 128, np.uint8)
    write_stamp(picture, STAMP_NS)
    assert shown_time(picture) == STAMP_NS


@pytest.mark.parametrize("seed", range(10))
def test_where_no_time_is_shown_none_is_read(seed):
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert shown_time(noise) is None
    assert shown_time(cv2.resize(noise[:6, :8], (320, 240))) is None


def test_two_times_in_one_picture_are_none():
    """A camera that exposes while the screen changes sees half of each."""
    mixed = filmed(STAMP_NS, corners=LEVEL) // 2 + filmed(STAMP_NS + 16_000_000, corners=LEVEL) // 2
    assert shown_time(mixed) in (None, STAMP_NS, STAMP_NS + 16_000_000)
