"""`operator.pad_map`: what a person wrote down for a gamepad or flight stick that follows no convention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hardware.operators.devices import evdev
from hardware.operators.devices.device_events import DeviceUnfit
from hardware.operators.devices.evdev import AXIS_NAMES, KEY_NAMES, AxisRange, axes_in_words, keys_in_words
from hardware.operators.devices.pad_map import (
    ALL_BUTTONS,
    AT_END,
    STICKS,
    PadMap,
    Slot,
    Way,
    drift,
    drift_notes,
    guessed_map,
    has_range,
    place_of,
)
from hardware.operators.layout import LayoutError


@dataclass(frozen=True)
class WrittenAxis:
    """An axis of `operator.pad_map.axes`.

    Attributes:
        code: The kernel's number of the axis.
        way: How it deflects its control.
        rest: Its value at rest; None is where the kernel says it is.
    """

    code: int
    way: Way
    rest: int | None = None

    @property
    def sides(self) -> list[str]:
        """The halves of the axis that it uses."""
        signs = {Way.PLUS: "+", Way.MINUS: "-"}.get(self.way, "+-")
        return [sign + AXIS_NAMES[self.code] for sign in signs]

    def slot(self, control: str, axis: AxisRange, value: int | None) -> Slot:
        """What it does on a pad.

        Args:
            control: Its control.
            axis: Its range.
            value: Where it is now; None if that is not known.
        """
        if self.rest is not None:
            place = place_of(self.rest, axis)
            return Slot(control, self.way, (place, place))
        here = None if value is None else place_of(value, axis)
        if self.way is Way.OUT:
            low = here if here is not None and here <= -AT_END else -1.0
            return Slot(control, self.way, (low, low))
        return Slot(control, self.way, drift(here))


@dataclass(frozen=True)
class WrittenMap:
    """`operator.pad_map`: what a person wrote down for a pad that follows no convention.

    Attributes:
        axes: By control; empty leaves the axes to be guessed.
        keys: Button code by control; empty leaves the buttons to be guessed.
    """

    axes: Mapping[str, WrittenAxis] = field(default_factory=dict)
    keys: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, written: Mapping[str, Any] | None) -> WrittenMap:
        """The map written in `operator.pad_map`.

        Args:
            written: `axes` and `keys`: control to the kernel's name of an axis or key. An axis may be
                `{axis: ABS_Z, rest: 128}`, and half of one is `+ABS_HAT1X` or `-ABS_HAT1X`.

        Raises:
            LayoutError: A control, an axis or a key that does not exist, or something used twice.
        """
        given = _mapping("operator.pad_map", written)
        unknown = [each for each in given if each not in ("axes", "keys")]
        if unknown:
            raise LayoutError(f"operator.pad_map has no '{unknown[0]}'; there is axes, keys")
        parts = {part: _mapping(f"operator.pad_map.{part}", given.get(part)) for part in ("axes", "keys")}
        axes = {control: _written_axis(control, each) for control, each in parts["axes"].items()}
        keys = {control: _written_key(control, each) for control, each in parts["keys"].items()}
        sides = [side for each in axes.values() for side in each.sides]
        twice = [each for each, count in Counter([*sides, *map(_key_name, keys.values())]).items() if count > 1]
        if twice:
            raise LayoutError(f"operator.pad_map gives {twice[0]} to two controls; keep one")
        return cls(axes, keys)

    def fitted(
        self, ranges: Mapping[int, AxisRange], values: Mapping[int, int], keys: Collection[int] | None = None
    ) -> PadMap:
        """The controls of a pad by this map; see `guessed_map`.

        Raises:
            DeviceUnfit: An axis or key that the pad does not have, or a rest outside an axis; names what there is.
        """
        for control, each in self.axes.items():
            self._check_axis(control, each, ranges, values)
        for control, code in self.keys.items():
            if keys is not None and code not in keys:
                raise DeviceUnfit(
                    f"operator.pad_map.keys.{control}: the device has no {_key_name(code)}; it has "
                    f"{keys_in_words(keys)}"
                )
        guessed = guessed_map(ranges, values, keys)
        buttons = {code: control for control, code in self.keys.items()} or guessed.keys
        if not self.axes:
            return PadMap(ranges, guessed.axes, buttons, guessed.notes)
        axes: dict[int, tuple[Slot, ...]] = {}
        for control, each in self.axes.items():
            slot = each.slot(control, ranges[each.code], values.get(each.code))
            axes[each.code] = (*axes.get(each.code, ()), slot)
        if not self.keys:
            # A trigger's button beside its axis says the same thing more coarsely.
            named = {slot.control for slots in axes.values() for slot in slots}
            buttons = {code: control for code, control in buttons.items() if control not in named}
        places = {code: place_of(values[code], ranges[code]) for code in axes if code in values}
        return PadMap(ranges, axes, buttons, tuple(drift_notes(axes, places)))

    @staticmethod
    def _check_axis(
        control: str, each: WrittenAxis, ranges: Mapping[int, AxisRange], values: Mapping[int, int]
    ) -> None:
        where, name = f"operator.pad_map.axes.{control}", AXIS_NAMES[each.code]
        axis = ranges.get(each.code)
        if axis is None:
            raise DeviceUnfit(f"{where}: the device has no {name}; it has {axes_in_words(ranges, values)}")
        if not has_range(axis):
            raise DeviceUnfit(
                f"{where}: {name} goes from {axis.minimum} to {axis.maximum}, wanted an axis with a range"
            )
        if each.rest is not None and not axis.minimum <= each.rest <= axis.maximum:
            raise DeviceUnfit(
                f"{where}: rest is {each.rest}, wanted a value of {axes_in_words({each.code: axis}, values)}"
            )


def _mapping(where: str, written: Any) -> Mapping[Any, Any]:
    if written is not None and not isinstance(written, Mapping):
        raise LayoutError(f"{where} is {written!r}, wanted a mapping from controls to the kernel's names")
    return written or {}


def _written_axis(control: str, written: Any) -> WrittenAxis:
    """One entry of `operator.pad_map.axes`."""
    where = f"operator.pad_map.axes.{control}"
    if control not in (*STICKS, *ALL_BUTTONS):
        raise LayoutError(f"{where}: no such control; there is {', '.join((*STICKS, *ALL_BUTTONS))}")
    entry = dict(written) if isinstance(written, Mapping) else {"axis": written}
    if not entry.keys() <= {"axis", "rest"} or "axis" not in entry:
        raise LayoutError(f"{where} is {written}, wanted an axis, or axis and rest")
    rest = entry.get("rest")
    if rest is not None and (isinstance(rest, bool) or not isinstance(rest, int)):
        raise LayoutError(f"{where}: rest is {rest!r}, wanted a whole number, as the axis reports it")
    name = str(entry["axis"])
    way = {"+": Way.PLUS, "-": Way.MINUS}.get(name[:1], Way.BOTH if control in STICKS else Way.OUT)
    if control in STICKS and way is not Way.BOTH:
        raise LayoutError(f"{where} is {name}, half an axis, but a stick goes both ways; give a whole one")
    codes = {known: code for code, known in AXIS_NAMES.items()}
    if name.lstrip("+-") not in codes:
        raise LayoutError(f"{where}: no axis {name}; the kernel's names are {', '.join(codes)}")
    return WrittenAxis(codes[name.lstrip("+-")], way, rest)


def _key_name(code: int) -> str:
    return KEY_NAMES.get(code, hex(code))


def _written_key(control: str, written: Any) -> int:
    """One entry of `operator.pad_map.keys`: the code of a key."""
    where = f"operator.pad_map.keys.{control}"
    if control not in ALL_BUTTONS:
        raise LayoutError(f"{where}: no such button; there is {', '.join(ALL_BUTTONS)}")
    if isinstance(written, int) and not isinstance(written, bool) and 0 <= written < evdev.KEY_COUNT:
        return written
    codes = {known: code for code, known in KEY_NAMES.items()}
    if written not in codes:
        raise LayoutError(
            f"{where}: no key {written!r}; wanted a code below {evdev.KEY_COUNT:#x} or a name such as BTN_SOUTH, "
            "BTN_TRIGGER, BTN_TRIGGER_HAPPY1"
        )
    return codes[written]
