"""Every answer about a video is that of a session that saw the same frames and was asked nothing before."""

import pytest

import foveate
from foveate.apps.watch import watch
from foveate.errors import VideoError
from foveate.runtime.load import load
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

QUESTION = "what color is the star ?"


@pytest.fixture(scope="module")
def loaded():
    return load("bundled-qwen")


def draw_frames(count):
    return [(0.5 * number, draw_scene(sample_scene(5, number))) for number in range(count)]


def open_session(loaded):
    return foveate.Session(loaded.model, loaded.processor, keep=0.2)


def answer_at_once(loaded, frames):
    with open_session(loaded) as session:
        for seconds, image in frames:
            session.see(image, at=seconds)
        return " ".join(str(session.ask(QUESTION)).split())


@pytest.mark.parametrize(
    ("every", "counts"), [(None, [4]), (0.5, [2, 3, 4]), (1.0, [3, 4]), (0.6, [3, 4]), (0.1, [2, 3, 4]), (9.0, [4])]
)
def test_every_answer_is_about_the_frames_so_far(loaded, capsys, every, counts):
    frames = draw_frames(4)
    with open_session(loaded) as session:
        reply = watch(session, iter(frames), QUESTION, every=every)
        assert session.messages == []
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [[f"{frames[n - 1][0]:.1f}", answer_at_once(loaded, frames[:n])] for n in counts]
    assert reply.times[-1] == 1.5


def test_what_came_before_the_damage_is_answered(loaded, capsys):
    frames = draw_frames(3)

    def damaged():
        yield from frames
        raise VideoError("cut")

    with open_session(loaded) as session, pytest.raises(VideoError, match="cut"):
        watch(session, damaged(), QUESTION, every=9.0)
    assert capsys.readouterr().out.split("\t")[0] == "1.0"


def test_without_frames_there_is_no_answer(loaded, capsys):
    with open_session(loaded) as session:
        assert watch(session, [], QUESTION) is None
    assert capsys.readouterr().out == ""
