"""Text for a report's page."""

from __future__ import annotations

import html

from robot_rl.summary import public_text


def text(value: object) -> str:
    """Escaped for HTML and without private paths."""
    return html.escape(public_text(str(value)))


def sentence(words: str) -> str:
    """The words with a capital at the beginning."""
    return words[:1].upper() + words[1:]
