"""Which axis of a pad is what, and that nothing else is heard.

Judged by Documentation/input/gamepad.rst and by the order in which SDL looks for triggers.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.operators.devices.gamepad import connect_gamepad
from hardware.operators.devices.pad_map import BUTTONS
from tests.hardware.operators.devices.kernel_fakes import InputKernel
from tests.hardware.operators.devices.pad_fakes import (
    GAS,
    HAT,
    HAT0X,
    HAT0Y,
    HAT1X,
    HAT1Y,
    PADS,
    RX,
    RY,
    RZ,
    TL,
    TR2,
    XBOX_KEYS,
    X,
    Y,
    Z,
    byte,
    deflections,
    opened,
)


@pytest.mark.parametrize("pad", PADS)
def test_every_axis_of_a_pad_moves_the_control_that_a_person_would_call_it(kernel, pad):
    axes, keys, wanted = PADS[pad]
    device = kernel.plug(3, axes | {HAT0X: HAT, HAT0Y: HAT}, keys, name=pad)
    reader, _ = opened(kernel)
    assert deflections(reader) == {}
    for control, code in {"left_x": X, "left_y": Y, **wanted}.items():
        rest, _, maximum = axes[code]
        device.move({code: maximum})
        assert deflections(reader) == {control: 1.0}
        device.move({code: rest})
        assert deflections(reader) == {}
    device.move({HAT0X: -1, HAT0Y: 1})
    assert deflections(reader) == {"dpad_left": 1.0, "dpad_down": 1.0}


@pytest.mark.parametrize("pad", PADS)
def test_a_stick_goes_both_ways_to_its_ends_whatever_else_the_pad_has(kernel, pad):
    axes, keys, wanted = PADS[pad]
    device = kernel.plug(3, axes, keys)
    reader, _ = opened(kernel)
    for control in ("left_x", "left_y", "right_x", "right_y"):
        if control in {"left_x": X, "left_y": Y, **wanted}:
            code = {"left_x": X, "left_y": Y, **wanted}[control]
            device.move({code: axes[code][1]})
            assert deflections(reader) == {control: -1.0}
            device.move({code: axes[code][0]})
            assert deflections(reader) == {}


def test_buttons_stand_for_the_triggers_that_have_no_axis(kernel):
    axes, keys, _ = PADS["sticks and buttons for triggers"]
    device = kernel.plug(3, axes, keys)
    reader, _ = opened(kernel)
    device.move(down=[TR2])
    assert deflections(reader) == {"right_trigger": 1.0}


def test_bumpers_that_are_axes_are_heard_as_the_kernels_document_has_them(kernel):
    device = kernel.plug(3, {X: byte(), Y: byte(), HAT1X: byte(0), HAT1Y: byte(0)}, (0x130, 0x131))
    reader, _ = opened(kernel)
    device.move({HAT1Y: 255})
    assert deflections(reader) == {"left_bumper": 1.0}


def test_triggers_that_both_rest_at_their_upper_end_are_turned_round_and_it_is_said(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes | {Z: byte(255), RZ: byte(255)}, keys)
    reader, told = opened(kernel)
    assert "turned round" in told[0]
    device.move({RZ: 0})
    assert deflections(reader) == {"right_trigger": 1.0}


def test_a_driver_that_only_counts_its_buttons_is_told_of(kernel):
    axes, keys, _ = PADS["Xbox by Bluetooth"]
    kernel.plug(3, axes, keys)
    assert "counts its buttons rather than names them" in opened(kernel)[1][0]


def test_a_pad_that_has_not_said_where_it_is_is_understood_once_it_has(kernel):
    axes, keys, _ = PADS["Android pad without a driver"]
    silent = {code: (0, minimum, maximum) for code, (_, minimum, maximum) in axes.items()}
    device = kernel.plug(3, silent, keys)
    reader, told = opened(kernel)
    assert "it has not said yet where it is" in told[0]
    assert deflections(reader) == {}
    device.move({code: value for code, (value, _, _) in axes.items()})
    assert deflections(reader) == {}
    device.move({RZ: 0, GAS: 255})
    assert deflections(reader) == {"right_y": -1.0, "right_trigger": 1.0}


def test_an_axis_that_does_not_say_its_range_is_none(kernel):
    axes, keys, _ = PADS["Xbox 360 by cable"]
    device = kernel.plug(3, axes | {RX: (0, 0, 0), RY: (5, 5, 5)}, keys)
    reader, _ = opened(kernel)
    device.move({RX: 5, RY: -5})
    assert deflections(reader) == {}
    assert not {"right_x", "right_y"} & connect_gamepad(root=kernel.root).controls


MOVES = st.one_of(
    st.tuples(st.just("axis"), st.sampled_from([X, Y, RX, RY]), st.integers(-32768, 32767), st.booleans()),
    st.tuples(st.just("axis"), st.sampled_from([Z, RZ]), st.integers(0, 255), st.booleans()),
    st.tuples(st.just("key"), st.sampled_from(XBOX_KEYS), st.booleans(), st.booleans()),
    st.tuples(st.just("replug"), st.none(), st.none(), st.booleans()),
)


@given(st.lists(MOVES, max_size=40))
@settings(deadline=None, max_examples=60)
def test_whatever_is_moved_lost_or_replugged_only_what_was_at_rest_since_opening_is_heard_and_truly(moves):
    axes, keys, wanted = PADS["Xbox 360 by cable"]
    controls = {"left_x": X, "left_y": Y, **wanted}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        kernel = InputKernel(Path(folder), patch)
        device = kernel.plug(3, {code: (0, *span) for code, (_, *span) in axes.items()}, keys)
        reader, _ = opened(kernel)
        held = set()
        for what, code, value, is_lost in moves:
            if what == "axis":
                device.move({code: value}, lost=is_lost)
            elif what == "key":
                device.move(down=[code] if value else (), up=() if value else [code], lost=is_lost)
            else:
                device.pull()
                reader.pump()
                assert reader.reading().values == {}
                device, held = replugged_with_the_left_stick_and_keys_as_they_were(kernel, device)
            if is_lost and what != "replug":
                device.overrun()
            reader.pump()
            held = {code for code in held if code in device.down or abs(deflection(device, code)) > 0.1}
            values = reader.reading().values
            for control, each in controls.items():
                true = 0.0 if each in held else deflection(device, each)
                assert values.get(control, 0.0) == pytest.approx(true, abs=1e-3)
            for each in keys:
                true = float(each in device.down and each not in held)
                assert values.get(BUTTONS[each], 0.0) == true


def replugged_with_the_left_stick_and_keys_as_they_were(kernel, device):
    """The device, everything else at rest, and the codes of what is held."""
    axes = {code: (0, *span) for code, (_, *span) in device.axes.items()}
    is_held = abs(deflection(device, X)) > 0.25
    if is_held:
        axes[X] = tuple(device.axes[X])
    return kernel.plug(3, axes, device.keys, device.down), {*device.down, *([X] if is_held else [])}


def deflection(device, code):
    """How far an axis is deflected, from what the kernel knows; 0 for a key."""
    if code not in device.axes:
        return 0.0
    value, minimum, maximum = device.axes[code]
    share = (value - minimum) / (maximum - minimum)
    return share if code in (Z, RZ) else 2 * share - 1


def test_a_stick_held_while_a_pad_has_not_said_where_it_is_stays_unheard_though_events_were_lost(kernel):
    axes, keys, _ = PADS["Android pad without a driver"]
    device = kernel.plug(3, {code: (0, minimum, maximum) for code, (_, minimum, maximum) in axes.items()}, keys)
    reader, _ = opened(kernel)
    device.move({code: value for code, (value, _, _) in axes.items()} | {X: 255}, down=[TL], lost=True)
    device.overrun()
    reader.pump()
    assert deflections(reader) == {"left_bumper": 1.0}
    device.move({X: 128})
    device.move({X: 255})
    reader.pump()
    assert reader.reading().values["left_x"] == 1.0
