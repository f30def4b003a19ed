"""What a long fuzz has seen is not lost with it."""

import os
import signal
import sys

import pytest

from benchmarks.runtime import fuzz_run


def tick(seed, count):
    count.ticks += 1
    return []


def ended_at_seed_40(seed, count):
    if seed == 40:
        os.kill(os.getppid(), signal.SIGTERM)
    return tick(seed, count)


def broken_at_seed_3(seed, count):
    return ["the box"] if seed == 3 else tick(seed, count)


@pytest.fixture
def fuzz(monkeypatch, capfd):
    """Runs rounds of a fuzz of nothing; what is printed."""
    before = {number: signal.getsignal(number) for number in fuzz_run.ENDING}

    def run(fuzz_round, *arguments):
        monkeypatch.setattr(sys, "argv", ["fuzz", *arguments])
        fuzz_run.run_rounds(fuzz_round, lambda count: f"{count.ticks} ticks", None)
        return capfd.readouterr().out.splitlines()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def test_totals_are_printed_at_the_end(fuzz):
    [line] = fuzz(tick, "--steps", "50000", "--processes", "2")
    assert line.startswith("100 ticks, ")


def test_totals_are_printed_where_a_signal_ends_it(fuzz):
    [line] = fuzz(ended_at_seed_40, "--steps", "1000000000")
    assert line.startswith("80 ticks, ")


def test_totals_are_printed_on_the_way(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz_run, "TOTALS_EVERY_S", 0.0)
    lines = fuzz(tick, "--steps", "40000")
    assert [line.split(",")[0] for line in lines] == ["so far: 40 ticks", "so far: 80 ticks", "80 ticks"]


def test_what_is_broken_ends_it(fuzz):
    with pytest.raises(SystemExit, match="the box"):
        fuzz(broken_at_seed_3)
