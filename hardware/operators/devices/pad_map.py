"""Which axis and which button of a gamepad is which control, as its driver reports them.

Three conventions are in use for triggers and right sticks, besides pads that follow none (Documentation/input/
gamepad.rst, Android's, and what Xbox and PlayStation drivers have always done). Codes alone do not tell them apart:
ABS_Z is a trigger on one pad and half a stick on another. Where an axis rests does: a trigger at its end, a stick in
its middle. The kernel tells it on opening.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hardware.operators.devices import evdev
from hardware.operators.devices.device_events import Change
from hardware.operators.devices.evdev import AxisRange, DeviceState

STICKS = ("left_x", "left_y", "right_x", "right_y")
"""-1 to 1; right and down (towards the person) are positive, as the kernel has it."""
TRIGGERS = ("left_trigger", "right_trigger")
"""0 to 1."""
DPAD = {evdev.ABS_HAT0X: ("dpad_left", "dpad_right"), evdev.ABS_HAT0Y: ("dpad_up", "dpad_down")}
BUTTONS = {
    0x130: "a",
    0x131: "b",
    0x133: "x",
    0x134: "y",
    0x136: "left_bumper",
    0x137: "right_bumper",
    0x13A: "select",
    0x13B: "start",
    0x13C: "mode",
    0x13D: "left_stick",
    0x13E: "right_stick",
    0x220: "dpad_up",
    0x221: "dpad_down",
    0x222: "dpad_left",
    0x223: "dpad_right",
}
ALL_BUTTONS = tuple(dict.fromkeys([*BUTTONS.values(), *TRIGGERS]))

RIGHT_STICKS = ((evdev.ABS_RX, evdev.ABS_RY), (evdev.ABS_Z, evdev.ABS_RZ))
"""By the kernel's document, and by Android's convention; across and along."""
OWN_TRIGGERS = ((evdev.ABS_HAT2Y, evdev.ABS_HAT2X), (evdev.ABS_BRAKE, evdev.ABS_GAS))
"""Left and right by the same two; nothing else bears these codes."""
SHARED_TRIGGERS = ((evdev.ABS_Z, evdev.ABS_RZ), (evdev.ABS_RX, evdev.ABS_RY))
"""Left and right where they are no stick: Xbox and PlayStation; a PlayStation pad without its own driver."""
DIGITAL = {
    "left_trigger": evdev.BTN_TL2,
    "right_trigger": evdev.BTN_TR2,
    "left_bumper": evdev.BTN_TL,
    "right_bumper": evdev.BTN_TR,
}
"""Buttons that also exist as axes; pads that have both send both."""
ANALOG_BUMPERS = {"left_bumper": evdev.ABS_HAT1Y, "right_bumper": evdev.ABS_HAT1X}

AT_END = 0.8
"""An axis that rests this far out, of the way from its middle to its end, rests at the end."""
LARGEST_DRIFT = 0.25
"""A stick that rests further out, likewise, is held or broken rather than worn."""
DRIFT_WORTH_SAYING = 0.1


class Way(enum.Enum):
    """How an axis deflects its control."""

    BOTH = enum.auto()
    """A stick: from its middle either way, -1 to 1."""
    OUT = enum.auto()
    """A trigger: from where it rests to the far end, 0 to 1."""
    MINUS = enum.auto()
    """Half an axis, such as a hat's: from its middle to the lower end, 0 to 1."""
    PLUS = enum.auto()
    """To the upper end."""


class Slot(NamedTuple):
    """A control that an axis deflects.

    Attributes:
        control: Its name.
        way: Which part of the axis' way deflects it.
        rest: Between these places the control is at rest; a place is -1 at the axis' lower end and 1 at the upper one.
            A trigger rests at the first.
    """

    control: str
    way: Way
    rest: tuple[float, float] = (0.0, 0.0)

    def deflection(self, place: float) -> float:
        """The control's deflection with its axis at a place."""
        low, high = self.rest
        if self.way is Way.OUT:
            far = 1.0 if low <= 0.0 else -1.0
            return min(1.0, max(0.0, (place - low) / (far - low)))
        beyond = 0.0
        if place > high:
            beyond = (place - high) / (1.0 - high)
        elif place < low:
            beyond = (place - low) / (1.0 + low)
        if self.way is Way.BOTH:
            return beyond
        return max(0.0, beyond if self.way is Way.PLUS else -beyond)


def has_range(axis: AxisRange) -> bool:
    """Whether an axis says between what its values lie; what they mean cannot be known otherwise."""
    return axis.maximum > axis.minimum


def place_of(value: int, axis: AxisRange) -> float:
    """Where in its range a value is, -1 to 1; of an axis without a range only the sign counts."""
    if not has_range(axis):
        return float((value > 0) - (value < 0))
    share = (value - axis.minimum) / (axis.maximum - axis.minimum)
    return min(1.0, max(-1.0, 2.0 * share - 1.0))


@dataclass(frozen=True)
class PadMap:
    """The controls of one gamepad.

    Attributes:
        ranges: Of its axes, by code.
        axes: Controls that each axis deflects, by code.
        keys: Control of each button, by code.
        notes: What a person should know about it.
    """

    ranges: Mapping[int, AxisRange]
    axes: Mapping[int, tuple[Slot, ...]]
    keys: Mapping[int, str]
    notes: tuple[str, ...] = field(default=())

    @property
    def controls(self) -> frozenset[str]:
        """Every control that something can deflect."""
        return frozenset([*self.keys.values(), *(slot.control for slots in self.axes.values() for slot in slots)])

    def axis_changes(self, code: int, value: int) -> list[Change]:
        """What an axis at a value means; nothing if it has no control."""
        if code not in self.axes:
            return []
        place = place_of(value, self.ranges[code])
        return [Change(slot.control, slot.deflection(place)) for slot in self.axes[code]]

    def all_changes(self, state: DeviceState) -> list[Change]:
        """What every axis and button of a device in a state means; the larger where two have one control."""
        found: dict[str, float] = {}
        pressed = [Change(control, float(code in state.down)) for code, control in self.keys.items()]
        turned = [change for code, value in state.values.items() for change in self.axis_changes(code, value)]
        for control, value in (*pressed, *turned):
            if abs(value) >= abs(found.get(control, 0.0)):
                found[control] = value
        return [Change(control, value) for control, value in found.items()]


def guessed_map(
    ranges: Mapping[int, AxisRange], values: Mapping[int, int], keys: Collection[int] | None = None
) -> PadMap:
    """The controls of a pad, from the codes that its driver gave them and from where its axes rest.

    Args:
        ranges: Of its axes, by code.
        values: Where they are now; without them, codes alone decide.
        keys: Codes of its buttons; None if they are not known.
    """
    ranged = {code: each for code, each in ranges.items() if has_range(each)}
    places = {code: place_of(value, ranged[code]) for code, value in values.items() if code in ranged}
    right = _right_stick(ranged, places)
    sticks = dict(zip(STICKS, (evdev.ABS_X, evdev.ABS_Y, *right), strict=False))
    axes: dict[int, tuple[Slot, ...]] = {
        code: (Slot(control, Way.BOTH, drift(places.get(code))),) for control, code in sticks.items() if code in ranged
    }
    triggers, notes = _trigger_slots(ranged, places, right)
    axes |= {code: (slot,) for code, slot in triggers.items()}
    for code, (minus, plus) in DPAD.items():
        if code in ranges:
            axes[code] = (Slot(minus, Way.MINUS), Slot(plus, Way.PLUS))
    for control, code in ANALOG_BUMPERS.items():
        if keys is not None and DIGITAL[control] not in keys and code in ranged and ranged[code].minimum >= 0:
            axes[code] = (Slot(control, Way.OUT, (-1.0, -1.0)),)
    known = dict(BUTTONS)
    analog = {slot.control for slot in triggers.values()}
    known |= {DIGITAL[control]: control for control in TRIGGERS if control not in analog}
    buttons = {code: control for code, control in known.items() if keys is None or code in keys}
    return PadMap(ranges, axes, buttons, (*drift_notes(axes, places), *notes, *_numbering_notes(keys)))


def _right_stick(ranges: Mapping[int, AxisRange], places: Mapping[int, float]) -> tuple[int, ...]:
    """Codes of the right stick: the first pair that does not rest at its end; empty if there is none."""
    pairs = [pair for pair in RIGHT_STICKS if set(pair) <= ranges.keys()]
    for pair in pairs:
        if not all(abs(places.get(code, 0.0)) >= AT_END for code in pair):
            return pair
    # All rest at their ends. One of two pairs, or a pair beside triggers, is a stick that is held there.
    has_triggers = any(set(pair) & _analog(ranges) for pair in OWN_TRIGGERS)
    return pairs[0] if pairs and (len(pairs) > 1 or has_triggers) else ()


def _analog(ranges: Mapping[int, AxisRange]) -> set[int]:
    """Axes that can be a trigger's by their range; a hat that turns has values below 0."""
    hats = {evdev.ABS_HAT1X, evdev.ABS_HAT1Y, evdev.ABS_HAT2X, evdev.ABS_HAT2Y}
    return {code for code, each in ranges.items() if code not in hats or each.minimum >= 0}


def _trigger_slots(
    ranges: Mapping[int, AxisRange], places: Mapping[int, float], right: Collection[int]
) -> tuple[dict[int, Slot], list[str]]:
    """The axes of the two triggers, and what is odd about them."""
    codes = _trigger_codes(ranges, places, right)
    # A trigger that is held looks like one that rests at its upper end. Two that agree are turned round.
    upper = len(codes) == len(TRIGGERS) and all(places.get(code, 0.0) >= AT_END for code in codes.values())
    slots = {}
    for control, code in codes.items():
        place = places.get(code, -1.0)
        at_rest = upper or place <= -AT_END
        slots[code] = Slot(control, Way.OUT, (place, place) if at_rest else (-1.0, -1.0))
    notes = ["both triggers rest at the upper end of their axes: taken as turned round"] if upper else []
    return slots, notes


def _trigger_codes(
    ranges: Mapping[int, AxisRange], places: Mapping[int, float], right: Collection[int]
) -> dict[str, int]:
    """Codes of the triggers' axes, by control."""
    codes: dict[str, int] = {}
    usable = _analog(ranges) - set(right)
    for pair in (*OWN_TRIGGERS, *SHARED_TRIGGERS):
        for control, code in zip(TRIGGERS, pair, strict=True):
            # Where there is no right stick, an axis that rests in its middle may be a twist, a rudder or half a stick.
            is_one = pair in OWN_TRIGGERS or bool(right) or abs(places.get(code, 0.0)) >= AT_END
            if code in usable and is_one:
                codes.setdefault(control, code)
    return codes


def drift(place: float | None) -> tuple[float, float]:
    """Where a stick counts as at rest: from its middle to where it rests, so that it may return to either."""
    if place is None or abs(place) > LARGEST_DRIFT:
        return 0.0, 0.0
    return min(0.0, place), max(0.0, place)


def drift_notes(axes: Mapping[int, Iterable[Slot]], places: Mapping[int, float]) -> list[str]:
    """What to tell a person about worn sticks."""
    return [
        f"{slot.control} rests at {place:+.2f} of its way: counted as at rest up to there"
        for code, slots in axes.items()
        for slot in slots
        if slot.way is Way.BOTH and DRIFT_WORTH_SAYING < abs(place := places.get(code, 0.0)) <= LARGEST_DRIFT
    ]


def _numbering_notes(keys: Collection[int] | None) -> list[str]:
    if keys is None or not {evdev.BTN_C, evdev.BTN_Z} <= set(keys):
        return []
    return [
        "its driver counts its buttons rather than names them: what is printed on them may differ; if so, write "
        "operator.pad_map"
    ]
