import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.recorder.writer import EpisodeWriter, RecorderSettings
from tests.data.recorder.storage_faults import check_read_only
from tests.data.recordings import LOSSLESS, SPEC, header, result, steps

ROOT = Path(__file__).parents[3]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def _own_file_system_refused():
    try:
        trial = subprocess.run(
            [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        return str(error)
    return trial.stderr.strip()


REFUSED = _own_file_system_refused()
needs_own_file_system = pytest.mark.skipif(
    bool(REFUSED), reason=f"this system lets nobody mount a small disk in a user namespace: {REFUSED}"
)


def _play(scenario, directory, *prefix):
    command = [*prefix, sys.executable, "-m", "tests.data.recorder.storage_faults", scenario, str(directory)]
    played = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=200)
    assert played.returncode == 0, played.stdout + played.stderr


@needs_own_file_system
def test_a_disk_that_fills_up_while_recording_is_named_and_no_acknowledged_tick_is_lost(tmp_path):
    _play("disk_full_while_recording", tmp_path, *NAMESPACE)


@needs_own_file_system
def test_a_disk_too_full_to_commit_keeps_the_log_until_there_is_space_again(tmp_path):
    _play("disk_full_while_committing", tmp_path, *NAMESPACE)


@needs_own_file_system
def test_a_dataset_on_a_read_only_disk_can_be_read_and_refuses_to_be_written(tmp_path):
    _play("read_only", tmp_path, *NAMESPACE)


def test_a_quota_that_ends_is_named_and_no_acknowledged_tick_is_lost(tmp_path):
    _play("file_size_limit", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any directory; the read-only disk covers this")
def test_a_dataset_in_a_read_only_directory_can_be_read_and_refuses_to_be_written(tmp_path):
    url = str(tmp_path / "set")
    with EpisodeWriter(url, SPEC, LOSSLESS, options=RecorderSettings(min_free_bytes=0)) as writer:
        writer.begin(SPEC, header(0))
        for step in steps(0, 20):
            writer.append(step)
        writer.end(result(20))
    paths = [Path(url), *Path(url).rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        check_read_only(url, "Permission denied")
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
