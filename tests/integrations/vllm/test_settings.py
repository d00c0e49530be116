"""The settings, and how they travel. Nothing here needs vLLM."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from foveate.apps import cli
from foveate.apps.batch.settings import BatchSettings
from foveate.apps.encoder import parse_encode
from foveate.conformance.batches import make_tiny_model
from foveate.errors import FoveateError, InputError, KeepError, ModelError, UnknownMethodError
from foveate.integrations.vllm import ARCHITECTURES, engine, overrides, serve
from foveate.integrations.vllm.engine import PrunedModelChecks
from foveate.integrations.vllm.settings import EngineSettings, ImagePlan, VllmSettings
from foveate.method.recency import Recency
from foveate.models import lookup
from foveate.policy import Policy
from policies import make_policy, save_policy, ship


def test_overrides():
    assert overrides("bundled", keep=0.1) == {
        "architectures": ["FoveateLlavaForConditionalGeneration"],
        "foveate": {
            "keep": 0.1, "method": "foveate", "positions": "original", "turn": "last", "reuse": "question",
            "encode": 1.0, "feature_cache_gib": 0.25,
        },
    }  # fmt: skip
    settings = {"keep": 64, "method": "divprune", "positions": "compact", "turn": "own", "encode": 1.0}
    settings |= {"reuse": "auto", "feature_cache_gib": 2}
    result = overrides("bundled-qwen", **settings)
    assert result == {"architectures": ["FoveateQwen2_5_VLForConditionalGeneration"], "foveate": settings}


def test_every_architecture_has_a_family():
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as names

    from foveate.models.registry import FAMILIES

    types = {architecture: model_type for model_type, architecture in names.items()}
    assert {types[architecture] for architecture in ARCHITECTURES} <= set(FAMILIES.names())


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"keep": 0}, KeepError),
        ({"keep": float("nan")}, KeepError),
        ({"keep": "many"}, KeepError),
        ({"keep": True}, KeepError),
        ({"keep": 0.1, "method": "clever"}, UnknownMethodError),
        ({"keep": 0.1, "method": "visionzip"}, InputError),
        ({"keep": 0.1, "method": "fastv"}, InputError),
        ({"keep": 0.1, "positions": "none"}, InputError),
        ({"keep": 0.1, "turn": "first"}, InputError),
        ({"keep": 0.1, "reuse": "always"}, InputError),
        ({"keep": 0.1, "reuse": True}, InputError),
    ],
)
def test_bad_settings(settings, error):
    with pytest.raises(error):
        overrides("bundled", **settings)
    with pytest.raises(error):
        VllmSettings(0.5).override(settings)


@pytest.mark.parametrize("size", [-1, float("nan"), float("inf"), True, "1", None])
def test_sizes_that_are_none(size):
    config = SimpleNamespace(foveate={"keep": 0.1, "feature_cache_gib": size})
    for refused in (
        lambda: overrides("bundled", keep=0.1, feature_cache_gib=size),
        lambda: EngineSettings.from_config(config),
    ):
        with pytest.raises(InputError, match=r"is not a size: give a number of GiB such as 0\.25, or 0\."):
            refused()


def test_the_size_of_the_feature_cache():
    assert EngineSettings.from_config(SimpleNamespace()).max_bytes == 2**28
    config = SimpleNamespace(foveate={"keep": 0.1, "feature_cache_gib": 0.5})
    assert EngineSettings.from_config(config).max_bytes == 2**29
    assert VllmSettings.from_config(config) == VllmSettings(0.1)
    assert EngineSettings(0).max_bytes == 0
    with pytest.raises(InputError, match="feature_cache_gib is set when vLLM starts, not in a request: leave it out"):
        VllmSettings(0.1).override({"feature_cache_gib": 1})


NO_POLICY = "vLLM fixes the number of tokens before it encodes an image, .* give keep a number, or use transformers"


def test_a_policy_is_refused_on_every_way_to_the_engine(tmp_path, monkeypatch):
    """In Python, in the configuration of the model, in a request, and from the commands."""
    model = make_tiny_model(lookup.family("llava"))
    path = save_policy(model, tmp_path)
    ship(monkeypatch, tmp_path, make_policy(model))  # a policy that comes with the model changes nothing
    monkeypatch.setattr(engine, "find_spec", lambda name: None)  # refused for the policy, with and without vLLM
    for keep in ("auto", Policy.load(path)):
        for refused in (
            lambda: overrides("bundled", keep=keep),  # noqa: B023
            lambda: VllmSettings(keep),  # noqa: B023
            lambda: VllmSettings(0.5).override({"keep": keep}),  # noqa: B023
            lambda: VllmSettings.from_config(SimpleNamespace(foveate={"keep": keep})),  # noqa: B023
            lambda: serve.make_command("bundled", keep=keep),  # noqa: B023
            lambda: BatchSettings("bundled", keep, "foveate", "original", "vllm", 1, 8).check(),  # noqa: B023
        ):
            with pytest.raises(InputError, match=NO_POLICY):
                refused()


def test_shares_by_age_are_refused():
    with pytest.raises(InputError, match="vLLM prunes each image without those beside it"):
        VllmSettings(Recency())


@pytest.mark.parametrize("keep", ["auto", "mine.policy.json"])
@pytest.mark.parametrize("command", [["serve", "--print"], ["serve"], ["batch", "q.jsonl", "--out", "out"]])
def test_the_commands_refuse_a_policy_for_vllm(capsys, tmp_path, monkeypatch, command, keep):
    monkeypatch.chdir(tmp_path)
    save_policy(make_tiny_model(lookup.family("llava")), tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--engine", "vllm", "--keep", keep])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert re.search(NO_POLICY, captured.err)
    assert not (tmp_path / "out").exists()


NO_TILES = r"vLLM encodes an image whole: leave encode=0\.4 out, or use transformers"


def test_some_tiles_are_refused_on_every_way_to_the_engine(monkeypatch):
    """In Python, in the configuration of the model, in a request, and from the commands; with and without vLLM."""
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    some = parse_encode("0.4")
    with pytest.raises(InputError, match="vLLM encodes an image whole: leave encode=auto out"):
        overrides("bundled", keep=0.1, encode="auto")
    for refused in (
        lambda: overrides("bundled", keep=0.1, encode=0.4),
        lambda: VllmSettings(0.1, encode=0.4),
        lambda: VllmSettings(0.5).override({"encode": 0.4}),
        lambda: VllmSettings.from_config(SimpleNamespace(foveate={"keep": 0.1, "encode": 0.4})),
        lambda: serve.make_command("bundled", keep=0.1, encode=0.4),
        lambda: BatchSettings("bundled", 0.1, "foveate", "original", "vllm", 1, 8, encoder=some).check(),
    ):
        with pytest.raises(InputError, match=NO_TILES):
            refused()
    for share in (0, 1.5, "most", None, True):
        with pytest.raises(InputError, match=r"^encode=.* use a float in \(0, 1\], or \"auto\"\.$"):
            VllmSettings(0.5).override({"encode": share})
    assert VllmSettings(0.5).override({"encode": 1}) == VllmSettings(0.5)


@pytest.mark.parametrize("command", [["serve", "--print"], ["serve"], ["batch", "q.jsonl", "--out", "out"], ["bench"]])
def test_the_commands_refuse_to_leave_tiles_out_in_vllm(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--engine", "vllm", "--encode", "0.4"])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
    sentence = r"--encode is for --engine hf: leave it out" if command == ["bench"] else NO_TILES
    assert re.search(sentence, captured.err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("model_type", "name"), [("gemma3", "Gemma3"), ("smolvlm", "SmolVLM")])
def test_unsupported_architecture(tmp_path, model_type, name):
    architecture = f"{name}ForConditionalGeneration"
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}", "architectures": ["{architecture}"]}}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match=f"does not prune {architecture} inside vLLM: it knows Glm4vFor.*Qwen3VLFor"):
        overrides(str(tmp_path), keep=0.1)


def test_override():
    settings = VllmSettings(0.5, "grid")
    assert settings.override(None) is settings
    assert settings.override({"keep": 3}) == VllmSettings(3, "grid")
    with pytest.raises(InputError, match="has no setting 'kep'"):
        settings.override({"kep": 3})
    with pytest.raises(InputError, match="pass an object"):
        settings.override([0.1])


@pytest.mark.parametrize("values", [None, {}, {"method": "grid"}, 0.1])
def test_no_keep(values):
    with pytest.raises(InputError, match="needs a value for keep"):
        VllmSettings.from_config(SimpleNamespace(foveate=values))


def test_counts():
    assert [VllmSettings(keep).count_kept(576) for keep in (0.1, 64, 1000, 0.0001, 1.0)] == [58, 64, 576, 1, 576]
    assert [VllmSettings(keep).keeps_all for keep in (1.0, 1, 0.9999)] == [True, False, False]


def test_plans_travel():
    plan = ImagePlan(58, 576, "foveate", "original", (5, 70000, 3))
    assert ImagePlan.unpack(plan.pack()) == plan


def test_command():
    command = serve.make_command("bundled", ["--port", "8001"], keep=0.2)
    assert command[:2] == ["vllm", "serve"]
    assert command[-4:] == ["--served-model-name", "bundled", "--port", "8001"]
    assert command[command.index("--middleware") + 1] == "foveate.integrations.vllm.middleware.RequestAdapter"
    assert '"keep": 0.2' in command[command.index("--hf-overrides") + 1]
    assert "'{" in serve.to_shell(command)
    named = serve.make_command("bundled", ["--served-model-name", "mine"], keep=0.2)
    assert named.count("--served-model-name") == 1
    with pytest.raises(InputError, match="writes --hf-overrides itself"):
        serve.make_command("bundled", ["--hf-overrides={}"], keep=0.2)


def test_a_bundled_adapter():
    with pytest.raises(
        ModelError, match="bundled-clips is an adapter on bundled-qwen, and vLLM reads whole checkpoint"
    ):
        serve.make_command("bundled-clips", keep=0.2)


def test_frames_of_a_video():
    """The number that vLLM shows of a video; none takes no video."""
    for frames, option in (
        (16, ["--media-io-kwargs", '{"video": {"num_frames": 16}}']),
        (0, ["--limit-mm-per-prompt", '{"video": 0}']),
    ):
        command = serve.make_command("bundled", ["--port", "8001"], max_frames=frames, keep=0.2)
        assert command[-4:-2] == option
        with pytest.raises(InputError, match=f"{option[0]} is set twice"):
            serve.make_command("bundled", [option[0], "{}"], max_frames=frames, keep=0.2)
    assert not {"--media-io-kwargs", "--limit-mm-per-prompt"} & set(serve.make_command("bundled", keep=0.2))


def test_no_vllm(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'foveate\[vllm\]'"):
        serve.exec_command(["vllm", "serve"])


def engine_config(**changes):
    """The configuration of an engine."""
    parts = {
        "parallel": {"pipeline_parallel_size": 1, "prefill_context_parallel_size": 1, "enable_dbo": False},
        "lora": {"enable_tower_connector_lora": False},
        "multimodal": {"mm_processor_kwargs": None, "is_multimodal_pruning_enabled": lambda: False},
        "engine": {"speculative_config": None},
    }
    for name, value in changes.items():
        next(part for part in parts.values() if name in part)[name] = value
    model = SimpleNamespace(multimodal_config=SimpleNamespace(**parts["multimodal"]))
    lora = SimpleNamespace(**parts["lora"])
    parallel = SimpleNamespace(**parts["parallel"])
    return SimpleNamespace(model_config=model, lora_config=lora, parallel_config=parallel, **parts["engine"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipeline_parallel_size": 2}, "pipeline parallelism"),
        ({"prefill_context_parallel_size": 2}, "context parallelism"),
        ({"enable_dbo": True}, "dual batch overlap"),
        ({"speculative_config": object()}, "speculative decoding"),
        ({"enable_tower_connector_lora": True}, "LoRA on the vision tower"),
        ({"is_multimodal_pruning_enabled": lambda: True}, "own pruning of videos"),
        ({"mm_processor_kwargs": {"foveate": {}}}, "in --mm-processor-kwargs"),
    ],
)
def test_ways_to_run_that_are_refused(changes, message):
    PrunedModelChecks.verify_and_update_config(engine_config())
    with pytest.raises(FoveateError, match=message):
        PrunedModelChecks.verify_and_update_config(engine_config(**changes))
