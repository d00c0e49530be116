import pytest

from foveate.load import load, quiet
from foveate.serve.app import make_app
from foveate.serve.settings import Settings
from foveate.world.scenes import draw_scene, sample_scene
from served import data_url, packed, running
from tiny import tiny_folder


@pytest.fixture(scope="session")
def bundled():
    with quiet():
        return load("bundled")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random LLaVA, which goes on for as long as it may."""
    with quiet():
        return load(str(tiny_folder("llava", tmp_path_factory.mktemp("llava"))))


@pytest.fixture(scope="session")
def scene():
    """A drawn picture, as a data URL."""
    return data_url(packed(draw_scene(sample_scene(0, 3))))


@pytest.fixture(scope="module")
def server(bundled):
    """The bundled model behind the default settings."""
    app = make_app(bundled, Settings())
    with running(app) as found:
        found.app, found.model = app, "bundled"
        yield found
