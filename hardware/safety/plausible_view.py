"""What a driver shows, less the samples that no body can have reached."""

from __future__ import annotations

from typing import NamedTuple

from robot_rl.core.episode import Observation
from robot_rl.core.errors import StaleSensor
from robot_rl.core.plausibility import Plausibility, PlausibleStream
from robot_rl.core.specs import AnyArray, RobotSpec


class _Sample(NamedTuple):
    captured_ns: int
    value: AnyArray


class PlausibleView:
    """Judges every stream whose spec says how fast it can change; the others pass.

    Args:
        spec: The driver's.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._streams = {
            name: PlausibleStream(name, stream)
            for name, stream in spec.observations.items()
            if Plausibility.for_spec(stream) is not None
        }
        self.forget()

    def forget(self) -> None:
        """The arm may be anywhere: after a reset, or once a person has looked."""
        for stream in self._streams.values():
            stream.forget()
        self._judged: dict[str, int] = {}
        self._used: dict[str, _Sample] = {}

    @property
    def rejected(self) -> int:
        """Samples that were not used, of all streams."""
        return sum(stream.rejected for stream in self._streams.values())

    @property
    def fault(self) -> str:
        """Why a stream is not used any more, in words; empty while all are."""
        return next((stream.fault for stream in self._streams.values() if stream.fault), "")

    def seen(self, observation: Observation) -> Observation:
        """The observation with the last sample that was used, as old as it is, in place of one that cannot be true.

        Raises:
            StaleSensor: A stream has not shown anything that can be used yet.
        """
        values, age_ns = dict(observation.values), dict(observation.age_ns)
        for name, stream in self._streams.items():
            captured_ns = observation.stamp_ns - age_ns[name]
            if self._judged.get(name) != captured_ns:
                self._judged[name] = captured_ns
                if stream.take(captured_ns, values[name]):
                    self._used[name] = _Sample(captured_ns, values[name])
            used = self._used.get(name)
            if used is None:
                raise StaleSensor(f"{name} shows nothing that can be true: {stream.problem}")
            values[name], age_ns[name] = used.value, observation.stamp_ns - used.captured_ns
        return Observation(observation.stamp_ns, values, age_ns)
