"""How well an episode kept time: counted tick by tick, reported at the end on the screen and in the episode."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.core.episode import Observation

NS_PER_MS = 1_000_000


class CadenceRecorder:
    """Counts what happens in an episode; eight bytes per tick and measured quantity.

    Args:
        tick_ns: The budget of a tick [ns].
        reason_names: Name of each bit of the command filter's reasons.
    """

    def __init__(self, tick_ns: int, reason_names: Mapping[int, str]) -> None:
        self._tick_ns = tick_ns
        self._reason_names = reason_names
        self._lateness_ns = array("q")
        self._compute_ns = array("q")
        self._inference_ns = array("q")
        self._age_ns: dict[str, array[int]] = defaultdict(lambda: array("q"))
        self._counts = Counter[str]()
        self._reasons = Counter[int]()

    def tick(self, lateness_ns: int, missed: int) -> None:
        """A tick begins: how long after its deadline [ns], and how many deadlines were skipped before it."""
        self._lateness_ns.append(lateness_ns)
        self._counts["missed_deadlines"] += missed

    def computed(self, compute_ns: int) -> None:
        """A tick's work is done: how long it took [ns]."""
        self._compute_ns.append(compute_ns)
        self._counts["over_budget_ticks"] += compute_ns > self._tick_ns

    def observed(self, observation: Observation) -> None:
        """A tick's observation, for the age of its streams."""
        for name, age_ns in observation.age_ns.items():
            self._age_ns[name].append(age_ns)

    def unobserved(self) -> None:
        """A tick without an observation."""
        self._counts["unobserved_ticks"] += 1

    def held(self) -> None:
        """A tick in a pause."""
        self._counts["paused_ticks"] += 1

    def waited(self) -> None:
        """A tick before the policy's first chunk, at the start or after a takeover or pause."""
        self._counts["waiting_ticks"] += 1

    def starved(self) -> None:
        """A tick for which the policy's last chunk had no row any more."""
        self._counts["starved_ticks"] += 1

    def chunk(self, latency_ns: int, late_rows: int) -> None:
        """A chunk was adopted: how long inference took [ns], and how many rows had to be dropped as late."""
        self._inference_ns.append(latency_ns)
        self._counts["late_rows_dropped"] += late_rows

    def filtered(self, reasons: int) -> None:
        """The command filter's reasons at one tick, one bit each."""
        while reasons:
            bit = reasons & -reasons
            self._reasons[bit] += 1
            reasons ^= bit

    def report(self) -> dict[str, Any]:
        """Everything counted, as JSON; durations in milliseconds."""
        return {
            "budget_ms": self._tick_ns / NS_PER_MS,
            "ticks": len(self._lateness_ns),
            **{name: self._counts[name] for name in _COUNTS},
            "lateness_ms": _percentiles_ms(self._lateness_ns),
            "compute_ms": _percentiles_ms(self._compute_ns),
            "chunks": len(self._inference_ns),
            "inference_ms": _percentiles_ms(self._inference_ns),
            "age_ms": {name: _percentiles_ms(ages) for name, ages in self._age_ns.items()},
            "filter_reasons": {
                self._reason_names.get(bit, str(bit)): self._reasons[bit] for bit in sorted(self._reasons)
            },
        }


_COUNTS = {
    "over_budget_ticks": "over budget",
    "missed_deadlines": "missed",
    "starved_ticks": "starved",
    "waiting_ticks": "waiting for a first chunk",
    "unobserved_ticks": "without observation",
    "paused_ticks": "paused",
    "late_rows_dropped": "late rows dropped",
}
"""Report key to the words on the screen."""


def render(report: Mapping[str, Any]) -> str:
    """A cadence report as lines for the screen."""
    ticks = ", ".join(
        f"{report[key]} {words}"
        for key, words in _COUNTS.items()
        if key != "late_rows_dropped" and (report[key] or key in {"over_budget_ticks", "missed_deadlines"})
    )
    lines = [
        f"ticks      {report['ticks']} of {report['budget_ms']:g} ms: {ticks}",
        f"lateness   {_line(report['lateness_ms'])}",
        f"compute    {_line(report['compute_ms'])}",
    ]
    if report["chunks"]:
        lines.append(
            f"inference  {_line(report['inference_ms'])}; {report['chunks']} chunks, "
            f"{report['late_rows_dropped']} late rows dropped, {report['starved_ticks']} starved ticks"
        )
    lines += [f"age        {_line(age)}  {name}" for name, age in report["age_ms"].items()]
    if report["filter_reasons"]:
        lines.append("filter     " + ", ".join(f"{name} {n}" for name, n in report["filter_reasons"].items()))
    return "\n".join(lines)


def _percentiles_ms(durations_ns: array[int]) -> dict[str, float] | None:
    """Median, 99th percentile and largest of some durations [ms], None if there are none."""
    if not durations_ns:
        return None
    values_ms = np.frombuffer(durations_ns, dtype=np.int64) / NS_PER_MS
    p50, p99 = np.percentile(values_ms, (50, 99))
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4), "max": round(float(values_ms.max()), 4)}


def _line(percentiles_ms: Mapping[str, float] | None) -> str:
    if percentiles_ms is None:
        return "none"
    return "p50 {p50:.2f}  p99 {p99:.2f}  max {max:.2f} ms".format(**percentiles_ms)
