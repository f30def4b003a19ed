"""What an arm is asked and what it answers, whatever carries it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hardware.arm.state import Mode
from robot_rl.core.errors import BadMessage as BadMessage
from robot_rl.core.specs import FloatArray, RobotSpec


@dataclass(frozen=True)
class ArmMode:
    """What an arm node says about itself whenever it changes.

    Attributes:
        mode: See `hardware.arm.state.Mode`.
        reason: Why, for people; names the next step where there is one.
        session: Who holds the lease; empty for nobody.
        episode: Resets executed since the node started.
        seed: Of the last reset.
        refusal: Why the last refused command, reset or enabling was refused; empty if none was since the last enabling.
        lockstep: Time stands still between commands.
        spec: The driver's, `RobotSpec.to_json`, at the rate at which rows are obeyed.
        limits_hash: `limits_hash` of the limits that the node enforces.
    """

    mode: Mode
    reason: str = ""
    session: str = ""
    episode: int = 0
    seed: int = 0
    refusal: str = ""
    lockstep: bool = False
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    limits_hash: str = ""

    def to_json(self) -> str:
        """For the `mode` topic; `from_json` reads it back equal."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ArmMode:
        """What `to_json` wrote; keys of a later version are left out.

        Raises:
            BadMessage: It is no such JSON.
        """
        try:
            document = json.loads(text)
            known = {field.name for field in dataclasses.fields(cls)}
            return cls(
                **{**{key: each for key, each in document.items() if key in known}, "mode": Mode(document["mode"])}
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadMessage(f"mode is {text[:80]!r}, wanted an arm node's JSON: {error}") from error

    def robot_spec(self) -> RobotSpec:
        """The driver's spec as an object."""
        return RobotSpec.from_json(self.spec)


def limits_hash(limits: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that two sides with the same limits, as written in the robot's yaml, agree on."""
    text = json.dumps(limits, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Row(NamedTuple):
    """A row of actions on the wire.

    Attributes:
        stamp_ns: The control tick it is for, robot clock [ns].
        session: Who sent it.
        values: Shape (A,), float64, in the spec's order.
        reasons: Bit set of `hardware.safety.filter.FilterReason`; 0 on the way to the arm.
        number: Of the sender's commands, from 1; 0 where they are not counted, and on the way back.
    """

    stamp_ns: int
    session: str
    values: FloatArray
    reasons: int = 0
    number: int = 0
