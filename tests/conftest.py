import pytest
import torch

from foveate.conformance.batches import make_tiny_model
from foveate.models import Family, lookup
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from kinds import KINDS
from tiny import tiny_folder

torch.set_num_threads(1)  # the models are tiny: on a busy machine two threads are slower than one


@pytest.fixture(params=KINDS)
def family(request) -> Family:
    return lookup.family(request.param)


@pytest.fixture
def model(family):
    return make_tiny_model(family)


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture
def llava():
    return make_tiny_model(lookup.family("llava"))


# -- models with a processor, for the server and the page ----------------------------------------------------------


@pytest.fixture(scope="session")
def bundled():
    with quiet():
        return load("bundled")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random LLaVA. It never ends an answer by itself."""
    with quiet():
        return load(str(tiny_folder("llava", tmp_path_factory.mktemp("llava"))))


@pytest.fixture(scope="session")
def scene():
    """A drawn image, as a data URL."""
    from served import data_url, to_file

    return data_url(to_file(draw_scene(sample_scene(0, 3))))
