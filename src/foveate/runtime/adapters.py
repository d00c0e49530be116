"""PEFT adapters: read from a folder into a model, whose own class stays."""

import json
import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import no_grad

from foveate.errors import ModelError
from foveate.runtime.late import cause_of, import_late

CONFIG = "adapter_config.json"
BESIDE = ("XLORA", "POLY")  # they work in the forward of PEFT's own class, beside the model's layers


def add_adapter(model: Any, adapter: str) -> Any:
    """The model with PEFT's layers in place of those that the adapter changes.

    Raises `ModelError` if there is no adapter, or if it is another model's.
    """
    folder = Path(adapter).expanduser()
    if folder.exists() and not (folder / CONFIG).is_file():
        raise ModelError(f"{adapter} holds no {CONFIG}: give the folder that PEFT's save_pretrained wrote.")
    name = str(folder) if folder.exists() else adapter
    peft = import_late("peft")
    try:
        config = peft.PeftConfig.from_pretrained(name)
    except Exception as error:  # damaged JSON, an unknown kind, no such repository
        raise ModelError(f"The adapter {adapter} cannot be read ({cause_of(error)}): check the path.") from error
    kind = getattr(config.peft_type, "value", config.peft_type)
    if config.is_prompt_learning or config.is_adaption_prompt or kind in BESIDE:
        raise ModelError(f"An adapter of kind {kind} works outside the model's layers: use one such as LoRA.")
    if getattr(config, "alora_invocation_tokens", None):
        raise ModelError("An activated LoRA needs to see the whole prompt: use a LoRA without invocation tokens.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, about PEFT's own code
            warnings.filterwarnings("error", message="Found missing adapter keys")
            wrapped = peft.PeftModel.from_pretrained(model, name)
        # A second time, as only this call returns the weights that have no place in the model.
        result = wrapped.load_adapter(name, "default", key_mapping=getattr(model, "_checkpoint_conversion_mapping", {}))
    except Exception as error:  # PEFT, safetensors and torch raise errors of many types
        raise ModelError(
            f"The adapter {adapter} does not fit this model ({cause_of(error)[:300]}): give the one that was trained "
            "on it."
        ) from error
    if result.unexpected_keys:
        raise ModelError(
            f"The adapter {adapter} is another model's: {len(result.unexpected_keys)} of its tensors have no place "
            f"here, for example {result.unexpected_keys[0]!r}."
        )
    return wrapped.get_base_model().eval()


@no_grad()
def merge_low_rank(model: Any, folder: Path) -> None:
    """Add a LoRA's products to the model's weights, in the form in which PEFT saves them; PEFT is not needed.

    `W + alpha / r B A` for every linear layer with matrices A and B, of r rows and columns. Other tensors replace the
    model's.

    Source:
        LoRA, arXiv 2106.09685.
    """
    settings = json.loads((folder / CONFIG).read_text())
    matrices = load_file(folder / "adapter_model.safetensors")
    for name, values in matrices.items():
        if ".lora_" not in name:
            model.get_parameter(name.removeprefix("base_model.model.")).copy_(values)
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            weight = model.get_submodule(layer.removeprefix("base_model.model.")).weight
            product = matrices[f"{layer}.lora_B.weight"].float() @ values.float()
            product = settings["lora_alpha"] / settings["r"] * product.to(weight.device)
            weight.copy_(weight.float() + product)
