"""What a check of stored data says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing wrong with an episode.

    Attributes:
        episode: Its id; empty for the dataset as a whole.
        field: Where, for example `streams.image.stamps_ns`.
        what: What is there.
        wanted: What should be.
        warning: The data is usable, but somebody should know.
    """

    episode: str
    field: str
    what: str
    wanted: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.episode}: {self.field}: {self.what}; wanted {self.wanted}"
