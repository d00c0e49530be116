"""Settings that are refused before anything is started."""

import json

import pytest

from apps.batch.drawn import settings
from foveate.apps.encoder import WHOLE, parse_encode
from foveate.conformance.batches import make_tiny_model
from foveate.errors import FoveateError
from foveate.models import lookup
from foveate.runtime.load_options import LoadOptions
from policies import SAFE, make_policy
from tiled import tiled_folder
from tiny import tiny_folder


def test_settings_that_can_be_used():
    for changes in ({}, {"method": "fastv"}, {"keep": 64}, {"model": "bundled-qwen"}):
        settings(**changes).check()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keep": 0.0}, "not a share"),
        ({"keep": 0}, "keeps no token"),
        ({"method": "foveat"}, "Did you mean 'foveate'"),
        ({"engine": "jax"}, "use hf or vllm"),
        ({"model": "/no/such/model"}, "There is no folder"),
        ({"options": {"max_model_len": 9}}, "use it with --engine vllm"),
        ({"loading": LoadOptions(dtype="bf16")}, "dtype 'bf16' is no floating-point type"),
        ({"loading": LoadOptions(revision="main")}, "revision is for models of the hub"),
        ({"loading": LoadOptions(gguf_file="x.gguf")}, "There is no file 'x.gguf'"),
        ({"loading": LoadOptions(device_map="auto"), "engine": "vllm"}, "device_map is not for --engine vllm"),
        ({"loading": LoadOptions(revision="main"), "engine": "vllm"}, "revision is for models of the hub"),
        (
            {"loading": LoadOptions(dtype="bfloat16"), "engine": "vllm", "options": {"dtype": "half"}},
            "dtype is set twice",
        ),
    ],
)
def test_settings_that_cannot_be_used(changes, says):
    with pytest.raises(FoveateError, match=says):
        settings(**changes).check()


def test_settings_with_a_policy(tmp_path):
    model = make_tiny_model(lookup.family("llava"))
    for keep in ("auto", make_policy(model)):
        settings(keep=keep).check()
        with pytest.raises(FoveateError, match="A policy is not for fastv, which takes one budget"):
            settings(keep=keep, method="fastv").check()
    with pytest.raises(FoveateError, match="keep='Auto' is a str"):
        settings(keep="Auto").check()
    records = [settings(keep=keep).to_record() for keep in (make_policy(model), make_policy(model, price=SAFE), "auto")]
    assert json.loads(json.dumps(records)) == records
    assert len({record["keep"] for record in records}) == 3
    assert records[0]["keep"].startswith("policy ")


def test_settings_of_the_encoder(tmp_path):
    some, folder = parse_encode("0.4"), str(tiled_folder("llava_next", tmp_path))
    settings(model=folder, encoder=some).check()
    assert settings(encoder=some).pruning["encode"] == 0.4
    records = [settings(encoder=each).to_record() for each in (some, WHOLE)]
    assert json.loads(json.dumps(records)) == records
    whole = {"encode": 1.0, "skip": None, "max_encoder_memory": None}
    assert [record["encoder"] for record in records] == [whole | {"encode": 0.4}, whole]
    for changes, says in (
        ({}, "encode=0.4 .* images of llava models whole: leave encode out"),
        ({"model": folder, "keep": "auto"}, "encode=0.4 is not for a policy"),
        ({"model": folder, "method": "fastv"}, "encode 0.4 is not for fastv, which sees the whole image"),
        ({"engine": "vllm"}, "vLLM encodes an image whole: leave encode=0.4 out"),
    ):
        with pytest.raises(FoveateError, match=says):
            settings(encoder=some, **changes).check()


def test_a_family_that_is_not_known(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FoveateError, match="'bert' are not supported"):
        settings(model=str(tmp_path)).check()


def test_without_vllm(monkeypatch):
    monkeypatch.setattr("foveate.integrations.vllm.engine.find_spec", lambda name: None)
    with pytest.raises(FoveateError, match=r"pip install 'foveate\[vllm\]'"):
        settings(engine="vllm").check()


def test_a_folder_becomes_absolute(tmp_path, monkeypatch):
    tiny_folder("llava", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert settings(model="model").make_absolute() == settings(model=str(tmp_path / "model"))
    (tmp_path / "bundled").mkdir()
    adapter = settings(loading=LoadOptions(adapter="model")).make_absolute()
    assert adapter == settings(loading=LoadOptions(adapter=str(tmp_path / "model")))
    for name in ("bundled", "owner/model"):
        assert settings(model=name).make_absolute() == settings(model=name)
