"""`foveate watch`: a line for each answer, and what is no video is refused before a model is loaded."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foveate.apps.cli.watch import parse_duration
from foveate.errors import InputError
from served import FOVEATE, PATIENCE
from videos import write_video

pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """5.9 seconds, a frame every 0.1."""
    return write_video(tmp_path_factory.mktemp("video") / "a.mkv", [0.1 * number for number in range(60)], "libx264")


@pytest.fixture
def watch(run, folder):
    """Call the command: (exit code, the answers' times, stderr)."""

    def call(video, *options):
        code, out, err = run(
            "watch", video, "how many?", "--model", folder, "--keep", 2, "--max-new-tokens", 3, *options
        )
        return code, [float(line.split("\t")[0]) for line in out.splitlines()], err

    return call


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ([], [5.0]), (["--every", "2s"], [2.0, 4.0, 5.0]), (["--every", "2500ms"], [3.0, 5.0]),
        (["--every", "1s", "--step", "0.5"], [1.0, 2.0, 3.0, 4.0, 5.0, 5.5]),
        (["--every", "0.1s", "--step", "2s"], [2.0, 4.0]), (["--every", "1h"], [5.0]),
    ],
)  # fmt: skip
def test_answers_come_at_their_times(watch, video, options, times):
    assert watch(video, *options)[:2] == (0, times)


def test_a_video_of_one_frame(watch, tmp_path):
    code, times, err = watch(write_video(tmp_path / "a.mp4", [0.0]), "--every", "1s")
    assert (code, times, err) == (0, [0.0], "(2 of 16 visual tokens in the last answer)\n")


def test_a_video_that_is_cut_short(watch, video, tmp_path):
    """What came is answered, then said."""
    data = Path(video).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 6 // 10])
    code, times, err = watch(tmp_path / "cut.mkv", "--every", "1s")
    assert code == 2
    assert 1 < len(times) < 5
    assert "cut.mkv cannot be decoded after frame" in err
    assert err.count("\n") == 1


def test_bad_input(refuse, video, scene, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.runtime.load.load", lambda *_, **__: pytest.fail("a model was loaded before"))
    assert "There is no video" in refuse("watch", tmp_path / "none.mp4", "why?")
    assert "no video that can be read" in refuse("watch", scene, "why?")
    assert "Missing argument 'QUESTION'" in refuse("watch", video)
    assert "The question is empty" in refuse("watch", video, " ")
    assert "--every '0' is no time above 0" in refuse("watch", video, "why?", "--every", 0)
    assert "--step 'soon' is no time" in refuse("watch", video, "why?", "--step", "soon")
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install 'foveate[video]'" in refuse("watch", video, "why?")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1), ("1s", 1), ("0.5 s", 0.5), ("250ms", 0.25), ("2min", 120), ("2m", 120), ("1H", 3600)],
)
def test_durations(text, seconds):
    assert parse_duration("--every", text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1 day", "nan", "inf", "s"])
def test_wrong_durations(text):
    with pytest.raises(InputError, match="is no time above 0"):
        parse_duration("--every", text)


@pytest.fixture
def _heeds_interrupts():
    """A shell ignores SIGINT in what it runs in the background, and so do the programs that are started there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeds_interrupts")
def test_ctrl_c_ends_it_without_a_traceback(folder, video):
    process = subprocess.Popen(
        [FOVEATE, "watch", video, "why?", "--model", folder, "--every", "0.1s", "--step", "0.1s"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline().startswith("0.1\t")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (130, "")
        assert len(out.splitlines()) < 58
    finally:
        process.kill()


def test_a_reader_that_leaves(folder, video):
    """As `head` does."""
    process = subprocess.Popen(
        [FOVEATE, "watch", video, "why?", "--model", folder, "--every", "0.1s", "--step", "0.1s"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline()
        process.stdout.close()
        assert (process.wait(PATIENCE), process.stderr.read()) == (1, "")
    finally:
        process.kill()
        process.stderr.close()
