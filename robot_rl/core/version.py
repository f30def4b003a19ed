"""Which version of this software runs, and where its source lies."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[2]


def software_version() -> str:
    """This installation's version."""
    return metadata.version("robot_rl")
