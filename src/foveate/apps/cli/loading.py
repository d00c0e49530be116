"""The options of `foveate.load`, for every command that loads a model."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from foveate.runtime.load_options import LoadOptions, parse_device_map

PARAMETER = "loading"
HELP = {
    "device_map": "Where the weights go: auto, balanced, a device, or a JSON object of modules and devices.",
    "dtype": "Data type of the weights: auto, float32, bfloat16 or float16.",
    "attention": "Attention: sdpa, eager, or flash_attention_2 where it is installed.",
    "quantize": "Quantize the weights: 4bit (bitsandbytes) or 8bit (bitsandbytes or torchao).",
    "revision": "A branch, tag or commit of a model of the hub.",
    "adapter": "A PEFT adapter such as a LoRA: its folder or hub id.",
    "gguf_file": "A GGUF file in the model's folder, where transformers reads the model from one.",
}


def takes_load_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `load` in place of its parameter `loading`, which it receives as `LoadOptions`."""
    signature = inspect.signature(command, eval_str=True)
    before = [each for each in signature.parameters.values() if each.name != PARAMETER]
    options = [_make_option(name, text) for name, text in HELP.items()]

    @wraps(command)
    def run(**values: Any) -> None:
        own = {name: values.pop(name) for name in HELP}
        if own["device_map"] is not None:
            own["device_map"] = parse_device_map(own["device_map"])
        command(**values, **{PARAMETER: LoadOptions(**own)})

    parameters = [*before, *options]
    run.__dict__["__signature__"] = signature.replace(parameters=parameters)  # read by Typer
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _make_option(name: str, text: str) -> inspect.Parameter:
    option = typer.Option(f"--{name.replace('_', '-')}", help=text, metavar="TEXT")
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[str | None, option])
