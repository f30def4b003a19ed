"""What is written about benchmarks can be typed in, and every benchmark can be imported from anywhere."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "RESULTS.md", *sorted((ROOT / "docs").glob("*.md")), *FILES]
OURS = ("benchmarks", "tests", "hardware", "robot_rl", "policies", "data")


def relative(path):
    return str(path.relative_to(ROOT))


def is_there(module):
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_line_names_a_module_that_is_there(page):
    named = re.findall(r"python3? -m ([A-Za-z_][\w.]*\w)", page.read_text())
    missing = [module for module in named if module.split(".")[0] in OURS and not is_there(module)]
    assert not missing, f"{relative(page)} names {missing}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_benchmark_imports_its_neighbour_by_a_bare_name(path):
    neighbours = {each.stem for each in path.parent.glob("*.py")} - sys.stdlib_module_names
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    bare = sorted(names & neighbours)
    assert not bare, f"{relative(path)} imports {bare}: it runs only from its folder"
