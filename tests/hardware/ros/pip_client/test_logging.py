"""The logger's format, levels and filters."""

from __future__ import annotations

import re

import pytest

from hardware.ros.pip_client.logging import LEVELS, LoggingSeverity, get_logger


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_has_severity_time_and_name(capsys: pytest.CaptureFixture[str]):
    assert get_logger("ur5e.arm").warning("late by 3 ms")
    (line,) = written(capsys)
    assert re.fullmatch(r"\[WARN\] \[\d+\.\d{9}\] \[ur5e\.arm\]: late by 3 ms", line)


def test_a_throttled_line_is_written_once_in_its_time(capsys: pytest.CaptureFixture[str]):
    logger = get_logger("arm")
    for number in range(5):
        logger.info(f"{number}", throttle_duration_sec=3600.0)
    logger.info("another line of code", throttle_duration_sec=3600.0)
    assert [line.split(": ")[1] for line in written(capsys)] == ["0", "another line of code"]


def test_once_and_skip_first(capsys: pytest.CaptureFixture[str]):
    logger = get_logger("arm")
    for number in range(3):
        logger.info(f"once {number}", once=True)
        logger.info(f"later {number}", skip_first=True)
    assert [line.split(": ")[1] for line in written(capsys)] == ["once 0", "later 1", "later 2"]


def test_debug_is_hidden_until_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hardware.ros.pip_client.logging.LEVELS", dict(LEVELS))
    logger = get_logger("quiet")
    logger.debug("hidden")
    logger.set_level(LoggingSeverity.DEBUG)
    logger.debug("shown")
    logger.get_child("part").debug("shown below")
    assert [line.split(": ")[1] for line in written(capsys)] == ["shown", "shown below"]
