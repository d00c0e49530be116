"""A folder of results: one run at a time, no half file, and one sentence for every fault of the disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps.faults import limit_files, needs_fork, run_in_child, signal_at
from foveate.apps.results import RUN, append_file, claim_folder, open_folder, write_file
from foveate.errors import InputError

HOLDER = """
import sys, time
from pathlib import Path
from foveate.apps.results import open_folder
with open_folder(Path(sys.argv[1])):
    print("open", flush=True)
    time.sleep(600)
"""


def test_one_run_in_a_folder(tmp_path):
    with open_folder(tmp_path / "out"):
        with pytest.raises(InputError, match=r"Another run writes to .*out: wait"), open_folder(tmp_path / "out"):
            pytest.fail("two runs")
        with open_folder(tmp_path / "other"):
            pass
    with open_folder(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_locks_nothing(tmp_path, number):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(InputError, match="Another run writes"), open_folder(tmp_path):
        pytest.fail("two runs")
    holder.send_signal(number)
    holder.communicate()
    with open_folder(tmp_path):
        pass


def test_an_error_unlocks(tmp_path):
    with pytest.raises(ValueError, match="x"), open_folder(tmp_path):
        raise ValueError("x")
    with open_folder(tmp_path):
        pass


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("new", ["new", b"\0new", "n\ud800w"])
def test_files_are_written_as_a_whole(tmp_path, old, new):
    path = tmp_path / "table.md"
    if old:
        path.write_text(old)
    write_file(path, new)
    assert path.read_bytes() == (new if isinstance(new, bytes) else new.encode(errors="backslashreplace"))
    assert list(tmp_path.iterdir()) == [path]


@needs_fork
@pytest.mark.parametrize("size", [0, 1, 1000, 8191])
def test_a_full_disk_leaves_the_old_file(tmp_path, size):
    path = tmp_path / "summary.json"
    path.write_text("old")

    def work():
        limit_files(size)
        write_file(path, "x" * 9000)

    code, error = run_in_child(work)
    assert code == 3
    assert "summary.json cannot be written (File too large): make room" in error
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


@needs_fork
@pytest.mark.parametrize("step", range(4))
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path, step):
    path = tmp_path / "summary.json"
    path.write_text("old")

    def work():
        signal_at(step, tmp_path)
        write_file(path, "new")

    assert run_in_child(work)[0] in (0, -signal.SIGKILL)
    assert path.read_text() == ("old" if step < 2 else "new")


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.md").mkdir()
    for write in (write_file, append_file):
        for place in ("none/table.md", "file/table.md", "folder.md", "x" * 300):
            with pytest.raises(InputError, match=r"cannot be written .*run the same command again"):
                write(tmp_path / place, "text")
    assert not (tmp_path / "folder.part").exists()
    with pytest.raises(InputError, match=r"cannot be written .No space left on device."):
        append_file(Path("/dev/full"), "text")


@pytest.mark.parametrize("place", ["file", "file/out", "dangling/out", "x" * 300])
def test_folders_that_cannot_be_used(tmp_path, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("/no/such/folder/at/all")
    with pytest.raises(InputError, match="give another folder"), open_folder(tmp_path / place):
        pytest.fail("opened")


def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match=r"nothing can be written there.*give another folder"), open_folder(tmp_path):
        pytest.fail("opened")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", '"x"', "\0\0", "[" * 100_000])
def test_settings_that_are_damaged(tmp_path, text):
    (tmp_path / RUN).write_text(text)
    with pytest.raises(InputError, match=r"cannot be used .*give another folder"):
        claim_folder(tmp_path, {"keep": 1})
    assert (tmp_path / RUN).read_text() == text
    (tmp_path / RUN).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be used"):
        claim_folder(tmp_path, {"keep": 1})


def test_settings_of_a_new_run(tmp_path):
    claim_folder(tmp_path / "out", {"keep": 1})
    assert json.loads((tmp_path / "out" / RUN).read_text()) == {"keep": 1}
