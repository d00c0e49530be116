"""Prompt-aware pruning of images and clips inside vLLM: a plug-in that vLLM finds through its entry points.

It changes nothing unless a model is started under one of the names of `ARCHITECTURES`, which `overrides` gives:

    LLM(model, hf_overrides=foveate.integrations.vllm.overrides(model, keep=0.2))
    foveate serve --model MODEL --engine vllm --keep 0.2

A request may have settings of its own: `"mm_processor_kwargs": {"foveate": {"keep": 0.1}}`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from foveate.errors import InputError, ModelError

PREFIX = "Foveate"
ARCHITECTURES = {
    "Glm4vForConditionalGeneration": "foveate.integrations.vllm.glm4v:PrunedGlm4v",
    "Idefics3ForConditionalGeneration": "foveate.integrations.vllm.idefics3:PrunedIdefics3",
    "InternVLForConditionalGeneration": "foveate.integrations.vllm.internvl:PrunedInternVL",
    "LlavaForConditionalGeneration": "foveate.integrations.vllm.llava:PrunedLlava",
    "LlavaNextForConditionalGeneration": "foveate.integrations.vllm.llava_next:PrunedLlavaNext",
    "LlavaOnevisionForConditionalGeneration": "foveate.integrations.vllm.llava_next:PrunedLlavaOnevision",
    "Mistral3ForConditionalGeneration": "foveate.integrations.vllm.pixtral:PrunedMistral3",
    "Qwen2VLForConditionalGeneration": "foveate.integrations.vllm.qwen:PrunedQwen2VL",
    "Qwen2_5_VLForConditionalGeneration": "foveate.integrations.vllm.qwen:PrunedQwen25VL",
    "Qwen3VLForConditionalGeneration": "foveate.integrations.vllm.qwen:PrunedQwen3VL",
}
"""The class that prunes, by the name of the stock architecture. Each is registered as `PREFIX` and that name."""


def register() -> None:
    """Register the architectures. vLLM calls this in each of its processes; a class is imported when it is used."""
    from vllm import ModelRegistry

    from foveate.integrations.vllm.engine import add_config_checks

    for name, where in ARCHITECTURES.items():
        ModelRegistry.register_model(PREFIX + name, where)
        add_config_checks(name, PREFIX + name)


def overrides(
    model: str,
    *,
    keep: int | float,
    method: str = "foveate",
    positions: str = "original",
    turn: str = "last",
    reuse: str = "question",
    feature_cache_gib: float = 0.25,
    encode: float = 1.0,
    skip: float | str | None = None,
    max_encoder_memory: int | None = None,
    revision: str | None = None,
) -> dict[str, Any]:
    """Make the `hf_overrides` with which vLLM prunes the images and clips of this model.

    Args:
        model: a folder, a hub id, or the name of a bundled model.
        keep, method, positions: as for `foveate.prune_inputs`; the defaults of every request.
        turn: which turn of the user is the question. "last" is the last one with text, as in the library. "own" is the
            one that shows the image, so that the KV cache of a longer chat stays valid.
        reuse: "question" chooses an image's tokens anew for each question. "picture" chooses them once without the
            question, so that all questions share their KV. "auto" does so from an image's second question on.
        feature_cache_gib: GiB of the host's memory, in each worker, for encoded images; 0 keeps none.
        encode, skip, max_encoder_memory: the defaults alone; vLLM encodes an image whole, and others are refused.
        revision: of a model of the hub; give it to vLLM too.

    Returns:
        A mapping for `LLM(model, hf_overrides=...)` or, in JSON, `vllm serve --hf-overrides`.

    Raises:
        FoveateError: for settings that cannot be used, and for an architecture that is not supported.

    Example:
        >>> LLM(model, hf_overrides=overrides(model, keep=0.1))
    """
    from foveate.integrations.vllm.settings import FIELD, EngineSettings, VllmSettings
    from foveate.runtime.load import locate, read_config
    from foveate.runtime.load_options import LoadOptions

    settings, engine = VllmSettings(keep, method, positions, turn, reuse, encode), EngineSettings(feature_cache_gib)
    _refuse(skip=skip, max_encoder_memory=max_encoder_memory)
    _refuse_adapter(model)
    names = read_config(locate(model), LoadOptions(revision=revision)).architectures or ["none"]
    if names[0] not in ARCHITECTURES:
        raise ModelError(
            f"foveate does not prune {names[0]} inside vLLM: it knows {', '.join(ARCHITECTURES)}. "
            "Other families prune in transformers (`foveate families`)."
        )
    return {"architectures": [PREFIX + names[0]], FIELD: {**asdict(settings), **asdict(engine)}}


def _refuse_adapter(model: str) -> None:
    """Raise `ModelError` for a bundled model that is stored as what another one lacks."""
    from foveate.runtime.load import BASES

    if model in BASES:
        raise ModelError(
            f"{model} is an adapter on {BASES[model]}, and vLLM reads whole checkpoints: save "
            f"foveate.load({model!r})'s model and processor into a folder, and give that."
        )


def _refuse(**options: Any) -> None:
    """Raise `InputError` if one of these options of the encoder is set."""
    for name, value in options.items():
        if value is not None:
            raise InputError(f"vLLM encodes an image whole: leave {name}={value} out, or use transformers.")
