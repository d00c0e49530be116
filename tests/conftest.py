import pytest
import torch

from foveate.family import Family, lookup
from foveate.laws import tiny_model

torch.set_num_threads(1)  # the models are tiny, and two threads on a busy machine are slower than one


# One of each kind: counted positions, M-RoPE, DeepStack. The laws run on every family (test_laws.py).
KINDS = ("llava", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(params=KINDS)
def family(request) -> Family:
    return lookup.family(request.param)


@pytest.fixture
def model(family):
    return tiny_model(family)


@pytest.fixture
def llava():
    return tiny_model(lookup.family("llava"))
