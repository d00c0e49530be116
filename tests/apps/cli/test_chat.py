"""`foveate chat`: lines from a pipe, and a terminal in which an answer is stopped."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from served import FOVEATE, PATIENCE
from videos import write_video


@pytest.fixture
def talk(run, folder, monkeypatch):
    """Call the command with lines on standard input: (exit code, stdout, stderr)."""

    def call(*arguments, lines):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return run("chat", *arguments, "--model", folder, "--keep", 5, "--max-new-tokens", 3)

    return call


def test_questions_about_one_image(talk, scene):
    code, out, err = talk(scene, lines=["what color?", "", "how many?"])
    assert (code, err) == (0, "")
    counts = [line for line in out.splitlines() if line.startswith("(")]
    assert counts[0] == "(5 of 16 visual tokens, 0 of 1 images encoded before)"
    assert re.fullmatch(r"\(5 of 16 visual tokens, 1 of 1 images encoded before, [1-9] tokens read before\)", counts[1])


def test_earlier_choices_stay(talk, scene):
    """All of the first prompt, with its 5 visual tokens, is read once."""
    code, out, err = talk(scene, "--turns", "frozen", lines=["what color?", "how many?"])
    assert (code, err) == (0, "")
    assert int(re.findall(r"(\d+) tokens read before", out)[0]) > 10


def test_another_image_comes_later(talk, scene):
    _, out, _ = talk(lines=[f"/see {scene}", "what color?", "/quit", "how many?"])
    assert [line for line in out.splitlines() if line.startswith("(")] == [
        "(5 of 16 visual tokens, 0 of 1 images encoded before)"
    ]


def test_videos(talk, tmp_path):
    """A frame for each second, each with its time; a second video would begin before the first one ended."""
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")
    video = write_video(tmp_path / "a.mp4", [0.0, 1.0, 2.0], "libx264")
    code, out, err = talk(video, lines=["what color?", f"/see {video}", "how many?"])
    assert code == 0
    counts = [line for line in out.splitlines() if line.startswith("(")]
    # one frame of three is no longer among the images: the next one shows all of it
    assert [line.partition(" read before")[0].partition(" visual tokens, ")[2] for line in counts] == [
        "2 of 2 images encoded before)", "2 of 2 images encoded before, 22 tokens",
    ]  # fmt: skip
    assert "show frames in order of time" in err


def test_errors_do_not_end_the_conversation(talk, scene, tmp_path):
    code, out, err = talk(scene, lines=[f"/see {tmp_path / 'none.png'}", "/look", "/see ", "what color?"])
    assert code == 0
    assert out.count("visual tokens") == 1
    missing, unknown, nameless = err.splitlines()
    assert nameless == "foveate: /see needs the name of a file: /see FILE."
    assert missing.startswith("foveate: There is no image")
    assert unknown.startswith("foveate: There is no command /look. Ask a question; /see FILE")


def test_wrong_options(refuse, scene, tmp_path):
    assert "keep" in refuse("chat", scene, "--keep", "0.0")
    assert "no image" in refuse("chat", tmp_path / "none.png")
    assert "merges" in refuse("chat", scene, "--turns", "frozen", "--method", "visionzip")
    assert "--turns" in refuse("chat", scene, "--turns", "last")
    assert "--memory" in refuse("chat", scene, "--memory", "0")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_ctrl_c_stops_an_answer_and_ctrl_d_the_conversation(folder, scene):
    """A random model never ends an answer by itself."""
    ours, theirs = pty.openpty()
    command = [FOVEATE, "chat", scene, "--model", folder, "--max-new-tokens", "100000"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""

    def wait_for(text):
        nonlocal shown
        end = time.monotonic() + PATIENCE
        while text not in shown:
            assert time.monotonic() < end, shown
            shown += os.read(ours, 4096)

    try:
        wait_for(b"> ")
        os.write(ours, b"what color is it?\n")
        wait_for(b"what color is it?\r\n")
        shown += os.read(ours, 4096)  # the beginning of the answer
        os.kill(process.pid, signal.SIGINT)
        wait_for(b"of 1 images encoded before)\r\n> ")
        os.write(ours, b"\x04")
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        os.close(ours)
