import pytest
import torch

from foveate.family import Family
from foveate.laws import tiny_model
from foveate.registry import FAMILIES

torch.set_num_threads(1)  # the models are tiny, and two threads on a busy machine are slower than one


@pytest.fixture(params=FAMILIES.names())
def family(request) -> Family:
    return FAMILIES.load(request.param)()


@pytest.fixture
def model(family):
    return tiny_model(family)


@pytest.fixture
def llava():
    return tiny_model(FAMILIES.load("llava")())
