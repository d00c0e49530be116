import copy

import pytest

from foveate.runtime.load import load, quiet
from tiny import LLAVA_CHAT, QWEN_CHAT, tiny_folder

KINDS = ("llava", "qwen2_5_vl")


@pytest.fixture(scope="session", params=KINDS)
def folder(request, tmp_path_factory):
    return tiny_folder(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def loaded(folder):
    with quiet():
        return load(str(folder))


@pytest.fixture
def model(loaded):
    return copy.deepcopy(loaded.model)


@pytest.fixture
def processor(loaded):
    return loaded.processor


@pytest.fixture
def marked_template(folder):
    """The chat template with the marks that show TRL which tokens the assistant wrote."""
    chat = LLAVA_CHAT if "llava" in folder.name else QWEN_CHAT
    part = "{{ part['text'] }}"
    marked = (
        "{% if message['role'] == 'assistant' %}{% generation %}"
        + part
        + "{% endgeneration %}{% else %}"
        + part
        + "{% endif %}"
    )
    return chat.replace(part, marked)
