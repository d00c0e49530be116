"""The options of `foveate.load` as vLLM's own."""

from collections.abc import Mapping
from typing import Any

from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

INSTEAD = {
    "device_map": "vLLM spreads a model by its own options, such as tensor_parallel_size",
    "attention": "vLLM selects its attention itself, or by its own option attention_backend",
    "adapter": "merge the adapter into its model (peft's merge_and_unload), save that and give its folder",
    "gguf_file": "vLLM reads images only with the whole checkpoint",
}


def to_engine_options(options: LoadOptions) -> dict[str, Any]:
    """The arguments of `vllm.LLM` with the same meaning. Raises `InputError` for an option that has none."""
    record = options.to_record()
    for name, instead in INSTEAD.items():
        if name in record:
            raise InputError(f"{name} is not for --engine vllm: {instead}.")
    if record.get("quantize") == "8bit":
        raise InputError("quantize 8bit is not for --engine vllm, whose bitsandbytes has 4bit alone: give 4bit.")
    bits = record.pop("quantize", None)
    if bits not in (None, "4bit"):
        raise InputError(f"quantize {bits!r} is unknown: give 4bit.")
    return {**record, **({} if bits is None else {"quantization": "bitsandbytes"})}


def join_options(options: LoadOptions, engine: Mapping[str, Any]) -> dict[str, Any]:
    """`to_engine_options` beside options for vLLM. Raises `InputError` if both set the same."""
    mapped = to_engine_options(options)
    twice = sorted(mapped.keys() & engine.keys())
    if twice:
        raise InputError(f"{twice[0]} is set twice, for foveate and for vLLM: leave one of them out.")
    return {**mapped, **engine}
