from robot_rl.core.confidence import OwnRollouts
from robot_rl.learning.online.best_so_far import BestSoFar

GOOD, NOISY, BAD = OwnRollouts(49, 50), OwnRollouts(46, 50), OwnRollouts(31, 50)


def test_nothing_has_fallen_before_there_is_a_best():
    assert not BestSoFar().has_fallen(BAD, 0.05)


def test_a_collapse_has_fallen_and_noise_has_not():
    best = BestSoFar()
    best.note(GOOD, {"weights": 1})
    assert best.has_fallen(BAD, 0.05)
    assert not best.has_fallen(NOISY, 0.05)
    assert not best.has_fallen(BAD, 0.0)


def test_the_best_is_the_one_that_is_surest_to_be_good():
    best = BestSoFar()
    best.note(OwnRollouts(5, 5), {"weights": 1})
    best.note(GOOD, {"weights": 2})
    best.note(OwnRollouts(6, 6), {"weights": 3})
    assert (best.own, best.state) == (GOOD, {"weights": 2})


def test_after_going_back_the_next_batch_is_the_bests_own_and_joins_its_episodes():
    best = BestSoFar()
    best.note(GOOD, {"weights": 1})
    assert best.go_back() == {"weights": 1}
    assert not best.has_fallen(BAD, 0.05)
    best.note(NOISY, {"weights": 1})
    assert best.own == OwnRollouts(95, 100)
    assert best.has_fallen(BAD, 0.05)


def test_a_checkpoint_brings_it_back():
    best = BestSoFar()
    best.note(GOOD, {"weights": 1})
    best.go_back()
    again = BestSoFar.from_document(best.document())
    assert (again.own, again.state, again.is_acting) == (best.own, best.state, best.is_acting)
