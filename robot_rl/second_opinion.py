"""Fitted Q evaluation beside the gate: it decides nothing, and a disagreement is worth a look.

Every policy of a round is fitted from the same first network for the same number of steps, so that what separates two
estimates is what the policies do and not how long somebody trained.

Legend: `M` transitions, `n` executed rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from policies.diffusion import DiffusionPolicy
from robot_rl.off_policy_evaluation import (
    EvaluationDiverged,
    FittedQ,
    FittedQConfig,
    fitted_q_evaluation,
    fitted_q_gain,
)
from robot_rl.transitions import Transitions

SECOND_GAIN = "second_gain"
"""Name of the second estimator's gain among a decision's evidence."""


class SecondOpinion:
    """Estimates of policies on one round's data.

    Args:
        transitions: Of the round, at every tick.
        config: See `FittedQConfig`.
    """

    def __init__(self, transitions: Transitions, config: FittedQConfig) -> None:
        # As the policy decides, every n ticks: the windows in between say the same again, and cost as much each.
        self._transitions = transitions.select(transitions.tick % transitions.chunk.shape[1] == 0)
        self._config = config
        self._known: dict[str, FittedQ] = {}

    def of(self, reference: DiffusionPolicy, candidate: DiffusionPolicy) -> Mapping[str, float]:
        """Estimated returns of both, the gain and its one-sided lower bound over starts; NaN where it diverged."""
        try:
            old, new = self._fitted(reference), self._fitted(candidate)
        except EvaluationDiverged:
            return {SECOND_GAIN: math.nan}
        gain = fitted_q_gain(old, new)
        return {
            "second_reference": old.estimate,
            "second_candidate": new.estimate,
            SECOND_GAIN: gain.mean,
            "second_lower_bound": gain.lower_bound,
        }

    def _fitted(self, policy: DiffusionPolicy) -> FittedQ:
        key = policy.fingerprint()
        if key not in self._known:
            self._known[key] = fitted_q_evaluation(policy, self._transitions, self._config)
        return self._known[key]
