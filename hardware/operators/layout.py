"""Which control of a device drives which action dimension of a robot, as written in `operator.layouts`."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from robot_rl.core.errors import RobotRLError
from robot_rl.core.specs import ActionKind, RobotSpec


class LayoutError(RobotRLError):
    """The device, as it is laid out, cannot drive this robot."""


@dataclass(frozen=True, kw_only=True)
class Moving:
    """Controls that move one action dimension: two keys or buttons, or an axis that goes both ways.

    With none of them the dimension stays where it was when the operator took over.

    Attributes:
        dimension: Name or index of the action dimension.
        minus: Key or button that moves it down.
        plus: Key or button that moves it up.
        axis: Axis that moves it either way, in place of `minus` and `plus`.
        speed: Action units per second at full deflection; with an axis, negative turns its direction round.
        meaning: For the legend, for example `left / right`.
        stream: For a POSITION dimension, the state stream that shows where it is.
        index: Element of that stream, in C order.
        leash: For a POSITION dimension, how far ahead of what is seen the controls may move the target, action units.
    """

    dimension: str | int
    minus: str = ""
    plus: str = ""
    speed: float = 0.0
    axis: str = ""
    meaning: str = ""
    stream: str | None = None
    index: int = 0
    leash: float | None = None

    @property
    def controls(self) -> list[str]:
        """What it uses of the device."""
        return [each for each in (self.minus, self.plus, self.axis) if each]

    def check(self) -> None:
        """Refuses an entry that says too little or two things at once.

        Raises:
            LayoutError: Names the dimension and what is missing or too much.
        """
        require_numbers(self.dimension, speed=self.speed, leash=self.leash)
        if self.leash is not None and not self.leash > 0.0:
            raise LayoutError(
                f"operator.layouts entry of '{self.dimension}': leash is {self.leash}, wanted more than 0; leave it "
                "out to let the target run ahead as far as it may"
            )
        pair = [each for each in (self.minus, self.plus) if each]
        if len(pair) == 1 or (pair and self.axis):
            raise LayoutError(f"operator.layouts entry of '{self.dimension}': give minus and plus, or an axis")
        if bool(self.controls) != (self.speed != 0.0):
            raise LayoutError(
                f"operator.layouts entry of '{self.dimension}': speed is {self.speed} with "
                f"{', '.join(self.controls) or 'no control'}; give both, or neither to hold it where it is"
            )


@dataclass(frozen=True, kw_only=True)
class Switching:
    """A key or button that switches one action dimension between two values, such as a gripper.

    Attributes:
        dimension: Name or index of the action dimension.
        key: The key or button.
        first: Value it starts with.
        second: The other value.
        meaning: For the legend, for example `gripper open / closed`.
        stream: State stream that shows which it is when the operator takes over; None starts from `first`.
        index: Element of that stream, in C order.
        second_below: It is `second` where the stream shows less than this.
        second_above: It is `second` where the stream shows more than this; only one of the two is given.
    """

    dimension: str | int
    key: str
    first: float
    second: float
    meaning: str = ""
    stream: str | None = None
    index: int = 0
    second_below: float | None = None
    second_above: float | None = None

    @property
    def controls(self) -> list[str]:
        """What it uses of the device."""
        return [self.key]

    def check(self) -> None:
        """Refuses a stream without a threshold, or with two, and states that are no numbers.

        Raises:
            LayoutError: Names the dimension and what is wrong with it.
        """
        require_numbers(self.dimension, first=self.first, second=self.second)
        require_numbers(self.dimension, second_below=self.second_below, second_above=self.second_above)
        if self.stream is not None and (self.second_below is None) == (self.second_above is None):
            raise LayoutError(
                f"operator.layouts entry of '{self.dimension}': give second_below or second_above with its stream"
            )

    def is_second(self, seen: float) -> bool:
        """Whether a value of its stream shows the second state."""
        if self.second_below is not None:
            return seen < self.second_below
        return self.second_above is not None and seen > self.second_above


def is_finite(value: object) -> bool:
    """Whether a setting is a number that is one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_numbers(dimension: str | int, **settings: object) -> None:
    """Refuses settings of an entry that are neither left out nor finite numbers.

    Raises:
        LayoutError: Names the first.
    """
    for name, value in settings.items():
        if value is not None and not is_finite(value):
            raise LayoutError(f"operator.layouts entry of '{dimension}': {name} is {value!r}, wanted a number")


Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Layout:
    """Which controls drive which action dimension of one robot."""

    moving: tuple[Moving, ...]
    switching: tuple[Switching, ...]

    @classmethod
    def for_spec(cls, spec: RobotSpec, layouts: Mapping[str, Any]) -> Layout:
        """The layout written for a robot, checked against its spec.

        Args:
            spec: The robot's.
            layouts: Robot name to `moving` and `switching`, each a list of mappings.

        Raises:
            LayoutError: There is none for this robot, or it does not fit.
        """
        written = section_for(spec, layouts)
        layout = cls(
            tuple(entry_of(Moving, each) for each in written.get("moving") or ()),
            tuple(entry_of(Switching, each) for each in written.get("switching") or ()),
        )
        layout.check(spec)
        return layout

    @property
    def entries(self) -> tuple[Moving | Switching, ...]:
        """Everything that drives a dimension."""
        return (*self.moving, *self.switching)

    @property
    def controls(self) -> list[str]:
        """Every control it uses, as often as it is used."""
        return [control for each in self.entries for control in each.controls]

    def check(self, spec: RobotSpec) -> None:
        """Refuses a robot that this layout cannot drive.

        Raises:
            LayoutError: A dimension that is not there, that is driven twice or, except a rate's, by nothing.
        """
        driven: set[int] = set()
        for each in self.entries:
            each.check()
            index = dimension_index(spec, each.dimension)
            if index in driven:
                raise LayoutError(f"two entries of operator.layouts.{spec.name} drive '{each.dimension}'; keep one")
            driven.add(index)
            if each.stream is not None:
                require_element(spec, each.dimension, each.stream, each.index)
            place = spec.action_kinds[index] is not ActionKind.RATE
            if isinstance(each, Moving) and place and each.stream is None:
                raise LayoutError(
                    f"operator.layouts.{spec.name}, '{each.dimension}': give stream and index, "
                    "to start where the robot is"
                )
        for index, kind in enumerate(spec.action_kinds):
            if kind is not ActionKind.RATE and index not in driven:
                raise LayoutError(
                    f"nothing drives action dimension {dimension_name(spec, index)} of '{spec.name}'; "
                    f"add it to operator.layouts.{spec.name}"
                )

    def check_controls(self, robot: str, axes: Collection[str], keys: Collection[str], used: Collection[str]) -> None:
        """Refuses controls that a device does not have, or that already mean something.

        Args:
            robot: Its name, for the message.
            axes: The device's.
            keys: Its keys or buttons.
            used: Those that other settings use.

        Raises:
            LayoutError: Names the control and what there is.
        """
        for each in self.entries:
            for control in each.controls:
                is_axis = isinstance(each, Moving) and control == each.axis
                known = axes if is_axis else keys
                if control not in known:
                    what = "axis" if is_axis else "button"
                    raise LayoutError(
                        f"operator.layouts.{robot}, '{each.dimension}': no {what} '{control}'; "
                        f"there is {', '.join(known) or 'none'}"
                    )
        taken = [control for control, count in Counter([*self.controls, *used]).items() if count > 1]
        if taken:
            raise LayoutError(f"operator.layouts.{robot} uses '{taken[0]}', which is taken; choose another")


def section_for(spec: RobotSpec, layouts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `operator.layouts` says about a robot.

    Raises:
        LayoutError: Nothing.
    """
    written = layouts.get(spec.name)
    if not isinstance(written, Mapping):
        known = ", ".join(layouts) or "none"
        raise LayoutError(f"no layout for robot '{spec.name}'; operator.layouts has {known}: add a section for it")
    return written


def dimension_index(spec: RobotSpec, dimension: str | int) -> int:
    """The action dimension that a name or an index means.

    Raises:
        LayoutError: There is none.
    """
    if dimension in spec.action.names:
        return spec.action.names.index(str(dimension))
    if isinstance(dimension, int) and 0 <= dimension < spec.action.shape[0]:
        return dimension
    known = ", ".join(spec.action.names) or f"0..{spec.action.shape[0] - 1}"
    raise LayoutError(f"operator.layouts: no action dimension '{dimension}' of '{spec.name}', which has {known}")


def dimension_name(spec: RobotSpec, index: int) -> str:
    """What to call an action dimension in a message."""
    return spec.action.names[index] if spec.action.names else str(index)


def require_element(spec: RobotSpec, dimension: str | int, stream: str, index: int) -> None:
    """Refuses an element of a stream that the robot does not have.

    Raises:
        LayoutError: Names those that there are.
    """
    if stream not in spec.observations:
        known = ", ".join(spec.observations)
        raise LayoutError(f"operator.layouts, '{dimension}': no stream '{stream}'; there is {known}")
    size = spec.observations[stream].size
    if not (isinstance(index, int) and 0 <= index < size):
        raise LayoutError(f"operator.layouts, '{dimension}': '{stream}' has no element {index}, wanted 0..{size - 1}")


def entry_of(kind: type[Entry], written: Mapping[str, Any]) -> Entry:
    """One entry of a layout.

    Raises:
        LayoutError: A field that there is not, or one missing.
    """
    try:
        return kind(**written)
    except TypeError as error:
        known = ", ".join(inspect.signature(kind).parameters)
        raise LayoutError(f"operator.layouts entry {dict(written)} does not fit; it takes {known}") from error
