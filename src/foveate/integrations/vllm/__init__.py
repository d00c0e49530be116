"""Prompt-aware pruning of pictures inside vLLM: a plug-in that vLLM finds through its entry points.

Nothing happens unless a model is started under one of the names of `ARCHITECTURES`, as `overrides` asks for:

    LLM(model, hf_overrides=foveate.integrations.vllm.overrides(model, keep=0.2))
    foveate serve MODEL --engine vllm --keep 0.2

A request may ask for its own: `"mm_processor_kwargs": {"foveate": {"keep": 0.1}}`.
"""

from __future__ import annotations

from typing import Any

from foveate.errors import ModelError

PREFIX = "Foveate"
ARCHITECTURES = {
    "LlavaForConditionalGeneration": "foveate.integrations.vllm.llava:Llava",
    "LlavaNextForConditionalGeneration": "foveate.integrations.vllm.llava_next:LlavaNext",
    "LlavaOnevisionForConditionalGeneration": "foveate.integrations.vllm.llava_next:LlavaOnevision",
    "Qwen2VLForConditionalGeneration": "foveate.integrations.vllm.qwen:Qwen2VL",
    "Qwen2_5_VLForConditionalGeneration": "foveate.integrations.vllm.qwen:Qwen25VL",
    "Qwen3VLForConditionalGeneration": "foveate.integrations.vllm.qwen:Qwen3VL",
}
"""The classes that prune, by the stock architecture's name; each is registered as `PREFIX` and that name."""


def register() -> None:
    """What vLLM calls in each of its processes: makes the names known. The classes are imported when one is used."""
    from vllm import ModelRegistry

    from foveate.integrations.vllm.engine import hook

    for name, where in ARCHITECTURES.items():
        ModelRegistry.register_model(PREFIX + name, where)
        hook(name, PREFIX + name)


def overrides(
    model: str, *, keep: int | float, method: str = "foveate", positions: str = "original", turn: str = "last"
) -> dict[str, Any]:
    """The `hf_overrides` with which vLLM prunes this model's pictures, for `LLM(...)` or, as JSON, `vllm serve`.

    `model` is a folder, a hub id or one of the bundled models. `keep`, `method` and `positions` are `prune_inputs`'
    (the default of every request). `turn` says which of the user's turns is the question: the "last" one with words, as
    in the library, or the picture's "own", so that the KV cache of a longer chat about one picture stays valid.

    Raises a `FoveateError` for settings that cannot be used and for an architecture that is not supported.
    """
    from foveate.integrations.vllm.settings import Settings
    from foveate.runtime.load import locate, read_config

    settings = Settings(keep, method, positions, turn)
    names = read_config(locate(model)).architectures or ["none"]
    if names[0] not in ARCHITECTURES:
        raise ModelError(
            f"foveate does not prune {names[0]} inside vLLM: it knows {', '.join(ARCHITECTURES)}. "
            "Other families prune in transformers (`foveate families`)."
        )
    return {"architectures": [PREFIX + names[0]], "foveate": settings.record()}
