from pathlib import Path

import pytest

from robot_rl.core.files import append_line, whole_lines, write_whole


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path):
    path = tmp_path / "new folder" / "config.json"
    write_whole(path, "one")
    write_whole(path, "two, ü")
    assert path.read_text(encoding="utf-8") == "two, ü"
    assert [*path.parent.iterdir()] == [path]


def test_a_write_that_fails_leaves_the_old_text(tmp_path: Path):
    path = tmp_path / "config.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half of the new text \ud800")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_line_cut_off_by_a_kill_is_left_out_and_makes_room_for_the_next(tmp_path: Path):
    path = tmp_path / "run" / "lines.jsonl"
    assert whole_lines(path) == []
    append_line(path, "one")
    path.open("a").write("tw")
    assert whole_lines(path) == [b"one"]
    append_line(path, "three, ü")
    assert [line.decode() for line in whole_lines(path)] == ["one", "three, ü"]
