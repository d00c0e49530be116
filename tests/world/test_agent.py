"""examples/agent.py runs, and its screen answers clicks."""

import numpy as np
import pytest

from foveate.runtime.load import load
from foveate.world.clips import name_cell
from scripts import load_script


@pytest.fixture(scope="module")
def agent():
    return load_script("examples/agent.py")


def test_two_steps_of_an_episode(agent, capsys):
    right = agent.run_episode(load("bundled-clips"), steps=2, keep=0.25, seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("9 of 36 tokens")
    assert lines[-1] == f"{right} of 2 clicks were right."
    assert right == sum(", right," in line for line in lines)


def test_a_click_lights_the_button_in_its_cell_and_nothing_else_does(agent):
    screen = agent.DrawnScreen(3)
    for step in range(8):
        cell = name_cell(screen.layout[step % len(screen.layout)])
        before = screen.layout
        assert screen.click(cell) == step % len(before)
        assert (screen.layout != before) == ((step + 1) % 3 == 0)
        assert len(screen.look()) == min(step + 2, agent.SEEN)
    shots = len(screen.pressed)
    assert screen.click("a1") is None  # the sign
    assert len(screen.pressed) == shots
    assert np.array_equal(np.asarray(screen.look()[-1]), np.asarray(screen.look()[-1]))
