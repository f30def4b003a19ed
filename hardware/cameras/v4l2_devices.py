"""Which cameras Linux knows, for people who have to write one into a yaml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class V4l2Device:
    """One camera.

    Attributes:
        path: For example `/dev/video0`; depends on the order of plugging in.
        name: As its maker calls it.
        lasting_paths: Links below `/dev/v4l` that stay the same for this camera or for its USB port.
    """

    path: str
    name: str
    lasting_paths: tuple[str, ...]

    def __str__(self) -> str:
        """One line for an error message."""
        also = f" = {self.lasting_paths[0]}" if self.lasting_paths else ""
        return f"{self.path} '{self.name}'{also}"


def v4l2_devices(root: Path = Path("/")) -> list[V4l2Device]:
    """Cameras of this computer, in the order of their numbers.

    Args:
        root: Where `sys` and `dev` are.
    """
    found = []
    for entry in sorted((root / "sys/class/video4linux").glob("video*"), key=lambda each: (len(each.name), each.name)):
        # A USB camera has a second node for its metadata, which is no camera.
        index = _text(entry / "index")
        if index in {"", "0"}:
            found.append(V4l2Device(f"/dev/{entry.name}", _text(entry / "name"), _links(root, entry.name)))
    return found


def explain_missing(device: str, root: Path = Path("/")) -> str:
    """Why a camera could not be opened, as far as can be told, and which others there are.

    Args:
        device: Path as in the yaml.
        root: Where `sys` and `dev` are.
    """
    path = root / device.lstrip("/")
    if not path.exists():
        reason = "there is no such device: is it plugged in?"
    elif not os.access(path, os.R_OK | os.W_OK):
        reason = "this user may not use it: add them to the group 'video' and log in again"
    else:
        reason = "it does not open: is another program using it, or is it no camera?"
    cameras = v4l2_devices(root)
    there = "; ".join(map(str, cameras)) if cameras else "none"
    return f"{reason} Cameras here: {there}"


def _links(root: Path, name: str) -> tuple[str, ...]:
    # by-id names the camera, by-path the port it is plugged into; two of the same model may share an id.
    links = [
        link
        for folder in ("by-id", "by-path")
        for link in sorted((root / "dev/v4l" / folder).glob("*"))
        if link.is_symlink() and Path(os.readlink(link)).name == name
    ]
    return tuple(f"/{link.relative_to(root)}" for link in links)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
