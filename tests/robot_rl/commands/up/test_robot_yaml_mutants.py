"""However a robot's yaml is spoilt, `robot-rl up check=true` accepts it or says in words what is wrong."""

from __future__ import annotations

import pytest

from tests.robot_rl.commands.up.yaml_mutants import KINDS, SHIPPED, mutants, outcome

SEED, COUNT = 20261128, 160


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Every mutant with what became of it."""
    place = tmp_path_factory.mktemp("configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBOT_RL_CONFIGS", str(place))
        return [(mutant, *outcome(mutant, place)) for mutant in mutants(SEED, COUNT)]


def test_every_mutant_is_accepted_or_refused_in_words(outcomes):
    broken = [f"{mutant.robot} {mutant.how}\n{words}" for mutant, what, words in outcomes if what == "broken"]
    assert not broken, "\n\n".join(broken[:3])


def test_words_are_few(outcomes):
    assert max(len(words) for _, what, words in outcomes if what == "refused") < 2000


def test_the_mutants_are_of_every_kind_and_robot(outcomes):
    assert {mutant.robot for mutant, _, _ in outcomes} == set(SHIPPED)
    assert {mutant.how.split()[1] for mutant, _, _ in outcomes} == {kind.__name__ for kind in KINDS}
    assert {what for _, what, _ in outcomes} == {"sound", "refused"}
