import pytest

from foveate.apps import cli
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from tiny import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_folder("llava", tmp_path_factory.mktemp("llava")))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    draw_scene(sample_scene(0, 3)).save(path)
    return str(path)


@pytest.fixture
def run(capsys):
    """Call the console script's function: (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


@pytest.fixture
def refuse(run):
    """Call it with arguments that it must refuse: the one line on stderr."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert code == 2, (out, err)
        assert err.startswith("foveate: ")
        assert err.count("\n") == 1
        return err

    return call
