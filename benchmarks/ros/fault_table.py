"""What the trials of a fault were like, as a row of a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

LATER_RAD = 8e-3
"""One command may be under way when a process is stopped: 0.75 rad/s for 10 ms."""
LONGEST_REASON = 200


def line(result: dict[str, Any]) -> str:
    """One row of the table."""
    trials = result["trials"]
    moved = [each["motion"] for each in trials if each["motion"] is not None]
    columns = [
        result["fault"],
        result["configured"],
        f"{len(trials)}" + (f" of {result['wanted']}: {result['failure']}" if result["failure"] else ""),
        spread([each["detected_ms"] for each in moved], "{:.0f}"),
        spread([each["said_ms"] for each in moved], "{:.0f}"),
        spread([1000 * each["rest_s"] for each in moved], "{:.0f}"),
        spread([1000 * each["moved_rad"] for each in moved], "{:.0f}"),
        reasons(trials),
        recovered_words(trials),
        dataset_words(result),
    ]
    return "| " + " | ".join(columns) + " |"


def spread(values: Sequence[float | None], form: str) -> str:
    """Median and largest."""
    known = [each for each in values if each is not None]
    return " / ".join(form.format(each) for each in (np.median(known), max(known))) if known else "-"


def reasons(trials: Sequence[dict[str, Any]]) -> str:
    """What was said, the commonest first, without what differs from trial to trial."""
    said: Counter[str] = Counter()
    for each in trials:
        words = [each["arm_said"], each["session_said"], each["note"]]
        if each["arm_said"].startswith(("stopped", "fault")) and each["note"] != "never began":
            words[1] = ""
        text = "; ".join(word for word in words if word)
        text = " ".join(text.split())[:LONGEST_REASON]
        text = re.sub(r"joint_arm_[0-9a-f]{8}", "the session", text)
        said[re.sub(r"\d+(\.\d+)? (ms|s)( old| older|:| in|; is it)", r"... \2\3", text).replace("|", "/")] += 1
    return "<br>".join(f"{count}x {text}" for text, count in said.most_common(3))


def recovered_words(trials: Sequence[dict[str, Any]]) -> str:
    """How often, and how far the arm went unasked."""
    words = f"{sum(each['recovered'] for each in trials)} of {len(trials)}"
    later = max((each["moved_later_rad"] for each in trials), default=0.0)
    return words + (f"; moved {1000 * later:.0f} mrad unasked" if later >= LATER_RAD else "")


def dataset_words(result: dict[str, Any]) -> str:
    found = result["dataset"]
    whole = not result["missing_episodes"] and not found["wrong"]
    words = f"{'yes' if whole else 'NO'}: {len(found['episodes'])} episodes"
    if found["recovered"]:
        words += (
            f", {found['recovered']} recovered, at most {max(result['rows_missing'], default=0)} of the last rows gone"
        )
    return words + ("" if whole else f"; missing {result['missing_episodes']}; {found['wrong'][:2]}")


HEAD = (
    "| fault | configured [ms] | times | detected p50 / max [ms] | said p50 / max [ms] | at rest p50 / max [ms] "
    "| moved p50 / max [mrad] | reason | recovered when told | dataset whole |\n|" + "---|" * 10
)
