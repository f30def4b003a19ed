"""A file system that holds only what a check is to find."""

from pathlib import Path


def files(root: Path, contents: dict[str, str]) -> Path:
    """A file system root that holds only what is given."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root
