"""Builds, into the ROS environment whose Python runs this, the message packages that its wheels lack.

    .venv-ros-jazzy/bin/python -m tests.hardware.ros.build_messages

Those are the packages of our own client's definitions and the vendors' status messages, as the robots' yamls spell them
out. The generators are in the wheels; a C++ compiler must be there. Every file goes where the wheels put theirs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hardware.ros.pip_client.definitions import MESSAGES

ROOT = Path(__file__).parents[3]
PREFIX = Path(sys.prefix)
SITE = Path(sysconfig.get_paths()["purelib"])
KINDS = ("typesupport_c", "typesupport_fastrtps_c", "typesupport_introspection_c")


def spelled_out(settings: Any) -> Iterator[tuple[str, str]]:
    """Every message type that a yaml gives with its fields, those within it first."""
    if isinstance(settings, list):
        for each in settings:
            yield from spelled_out(each)
    elif isinstance(settings, dict):
        if isinstance(settings.get("fields"), str) and isinstance(settings.get("type"), str):
            yield from (settings.get("also") or {}).items()
            yield settings["type"], settings["fields"]
        for each in settings.values():
            yield from spelled_out(each)


def wanted() -> dict[str, dict[str, str]]:
    """Package to message name to definition, of the packages that are not there or lack a message."""
    texts = dict(MESSAGES)
    for path in sorted((ROOT / "configs/robot").rglob("*.yaml")):
        texts |= dict(spelled_out(yaml.safe_load(path.read_text())))
    packages: dict[str, dict[str, str]] = defaultdict(dict)
    for name, text in texts.items():
        package, _, short = name.split("/")
        packages[package][short] = text
    return {name: found for name, found in packages.items() if not found.keys() <= messages_of(name)}


def messages_of(package: str) -> set[str]:
    """The messages that a package has here."""
    if importlib.util.find_spec(package) is None:
        return set()
    return set(dir(importlib.import_module(f"{package}.msg")))


class EachOnce:
    """The generators' entry points; the wheels bring each twice, which the command line of rosidl refuses."""

    def entry_points(self) -> EachOnce:
        return self

    def select(self, group: str) -> list[Any]:
        return list({each.name: each for each in importlib.metadata.entry_points(group=group)}.values())


def generate(package: str, texts: Mapping[str, str], place: Path) -> None:
    """Writes the sources of a package: definitions, C, type supports and Python."""
    from rosidl_adapter.msg import convert_msg_to_idl
    from rosidl_cli import entry_points
    from rosidl_cli.command.generate.api import generate

    entry_points.importlib_metadata = EachOnce()
    (place / "msg").mkdir()
    for short, text in texts.items():
        (place / "msg" / f"{short}.msg").write_text(text.replace(";", "\n") + "\n")
        convert_msg_to_idl(place, package, Path("msg") / f"{short}.msg", place / "msg")
    generate(
        package_name=package,
        interface_files=[f"{place}:msg/{short}.idl" for short in texts],
        include_paths=[PREFIX / "share"],
        output_path=place / "made",
        types=["c", "py"],
        typesupports=["c", "fastrtps_c", "introspection_c"],
    )


def build(package: str, texts: Mapping[str, str], place: Path) -> None:
    """Compiles a package into the libraries and the Python package that every message package is, and installs them."""
    import numpy

    generate(package, texts, place)
    made, headers = place / "made", place / "include" / package
    kinds = {kind: made / kind.removeprefix("typesupport_") for kind in KINDS}
    for folder in kinds.values():
        for header in folder.rglob("*.h"):
            target = headers / header.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(header, target)
    folders = [
        headers.parent,
        PREFIX / "include",
        *(PREFIX / "include").iterdir(),
        numpy.get_include(),
        sysconfig.get_path("include"),
    ]
    compiler = Compiler(package, [f"-I{folder}" for folder in folders])
    c = made / "c" / "msg"
    compiler.library("rosidl_generator_c", [*(c / "detail").glob("*.c")])
    compiler.library("rosidl_typesupport_fastrtps_c", [*kinds["typesupport_fastrtps_c"].rglob("*.cpp")])
    compiler.library("rosidl_typesupport_introspection_c", [*kinds["typesupport_introspection_c"].rglob("*.c")])
    compiler.library("rosidl_typesupport_c", [*c.glob("*.cpp")])
    compiler.library("rosidl_generator_py", [*(made / "py" / "msg").glob("*.c")])
    shutil.copytree(made / "py", SITE / package, dirs_exist_ok=True)
    (SITE / package / "__init__.py").touch()
    for kind in KINDS:
        (entry,) = (made / "py").glob(f"*.ep.rosidl_{kind}.c")
        compiler.compile(SITE / package / f"{package}_s__rosidl_{kind}.so", [entry])


class Compiler:
    """Makes the shared libraries of a package, each linked to those made before it and to what the wheels bring.

    Args:
        package: Its name begins each library's.
        include: Flags.
    """

    def __init__(self, package: str, include: list[str]) -> None:
        self._package, self._include = package, include
        wheels = (path for path in (PREFIX / "lib").glob("lib*.so") if "_cpp" not in path.name)
        self._made = [str(path) for path in sorted(wheels) if not path.name.startswith(f"lib{package}__")]

    def library(self, kind: str, sources: list[Path]) -> None:
        """One of the package's libraries."""
        target = PREFIX / "lib" / f"lib{self._package}__{kind}.so"
        self.compile(target, sources)
        self._made.insert(0, str(target))

    def compile(self, target: Path, sources: list[Path]) -> None:
        """Any shared library."""
        objects = []
        for source in sources:
            objects.append(str(source.with_suffix(source.suffix + ".o")))
            compiler = "g++" if source.suffix == ".cpp" else "gcc"
            subprocess.run([compiler, "-c", "-fPIC", "-O1", str(source), "-o", objects[-1], *self._include], check=True)
        flags = ["-Wl,--as-needed", f"-Wl,-rpath,{PREFIX / 'lib'}"]
        subprocess.run(["g++", "-shared", *objects, "-o", str(target), *flags, *self._made], check=True)


def main() -> int:
    """Builds what is missing; returns the process's exit status."""
    if shutil.which("g++") is None:
        sys.stderr.write("no g++ here: tests that need a vendor's messages are skipped\n")
        return 0
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    for package, texts in wanted().items():
        with tempfile.TemporaryDirectory() as place:
            build(package, texts, Path(place))
        sys.stdout.write(f"built {package}: {', '.join(texts)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
