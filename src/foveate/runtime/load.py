"""`load`: a model and its processor, from the hub, from a folder, or one of the small bundled ones."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from foveate.errors import InputError, ModelError, UnknownFamilyError, describe
from foveate.models.lookup import family
from foveate.runtime.adapters import CONFIG as ADAPTER_CONFIG, add_adapter, merge_low_rank
from foveate.runtime.chat_template import learn_template
from foveate.runtime.late import cause_of, import_late
from foveate.runtime.load_options import LoadOptions
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.processor import load_processor

MODELS = Path(__file__).parents[1] / "world" / "models"
BUNDLED = {
    "bundled": MODELS / "llava",
    "bundled-qwen": MODELS / "qwen",
    "bundled-clips": MODELS / "clips",
    "bundled-tiles": MODELS / "tiles",
}
BASES = {"bundled-clips": "bundled-qwen"}  # bundled adapters, which are added to the weights of another model
LONGEST = 255  # characters of a file's name, in most systems
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
WEIGHTS = ("*.safetensors", "*.bin")
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "subfolder", "token")  # for all files
HELPERS = ("accelerate", "bitsandbytes", "torchao")  # packages with logs of their own


def load(
    name: str = "bundled", *, device_map: str | int | Mapping[str, str | int] | None = None, dtype: Any = None,
    attention: str | None = None, quantize: str | None = None, revision: str | None = None,
    adapter: str | None = None, gguf_file: str | None = None, **more: Any,
) -> LoadedModel:  # fmt: skip
    """Load a vision-language model and its processor.

    By default the model goes to CUDA or MPS where there is one, else to the CPU, in the data type of its checkpoint;
    the bundled models, stored in half precision, compute in float32 on a CPU. How the chat template marks the question
    is learned at once (`learn_template`), unless the checkpoint's configuration says it.

    Args:
        name: A hub id, a local folder that `save_pretrained` wrote, or one of four small models that know drawn scenes
            only: "bundled" (LLaVA's architecture), "bundled-qwen" (Qwen2.5-VL's), "bundled-clips" (clips too) and
            "bundled-tiles" (large pages in tiles, Aya Vision's architecture).
        device_map: Where the weights go: "auto", "balanced", a device, or a mapping of modules to devices ("disk" too).
        dtype: A data type such as "bfloat16", or "auto".
        attention: "sdpa", "eager", or another that transformers knows and that is installed ("flash_attention_2").
        quantize: "4bit" (by bitsandbytes) or "8bit" (by bitsandbytes or, where it is not installed, torchao).
        revision: A branch, tag or commit of a model of the hub.
        adapter: The folder or hub id of a PEFT adapter such as a LoRA. Its layers become part of the model.
        gguf_file: A GGUF file in the folder, for models that transformers reads from one.
        **more: Other arguments of transformers' `from_pretrained` for the model, such as `max_memory`.

    Returns:
        The model, its processor and notes, as a `LoadedModel`.

    Raises:
        InputError: An option cannot be honoured. No weights were read.
        ModelError: The model or the adapter cannot be found or read.
        UnknownFamilyError: foveate does not support its family. No weights were read.

    Example:
        >>> loaded = foveate.load("Qwen/Qwen2.5-VL-3B-Instruct", device_map="auto", dtype="bfloat16")
        >>> inputs = loaded.processor(images=[image], text=[prompt], return_tensors="pt").to(loaded.model.device)
        >>> short = foveate.prune_inputs(loaded.model, inputs, keep=0.1)
    """
    options = LoadOptions(device_map, dtype, attention, quantize, revision, adapter, gguf_file)
    return _load(name, options, more)


def _load(name: str, options: LoadOptions, more: Mapping[str, Any]) -> LoadedModel:
    options.check()
    where, device = locate(name, options.gguf_file), _choose_device()
    base = BASES.get(name)
    if base and (options.quantize, options.device_map) != (None, None):
        raise InputError(f"{name} adds an adapter to the weights of {base}: leave quantize and device_map out.")
    if "torch_dtype" in more:  # transformers would look at dtype alone
        raise InputError("torch_dtype is an older name: give dtype.")
    hub = {name: more[name] for name in HUB_ARGUMENTS if name in more}
    config = read_config(where, options, **hub)
    check_family(config, options.gguf_file)
    # The processor is small and comes first: its errors show before gigabytes are read.
    processor, notes = load_processor(where, config, **options.source, **hub)
    arguments = options.to_arguments(config, device)
    if name in BUNDLED and options.dtype is None and device == "cpu":
        arguments["dtype"] = "float32"
    twice = sorted(arguments.keys() & more)
    if twice:
        raise InputError(f"{twice[0]} is set by another option of load: leave one of them out.")
    weights = {"config": config, **arguments} if base else arguments
    model = _load_weights(str(BUNDLED[base]) if base else where, device, weights, more)
    if base:
        merge_low_rank(model, Path(where))
    if options.adapter is not None:
        model = add_adapter(model, options.adapter)
    if getattr(model.config, "foveate_template", None) is None:
        try:
            learn_template(model, processor)
        except ModelError as error:
            notes = (*notes, f"The question is found by special tokens alone. {error}")
    return LoadedModel(model, processor, notes, name)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs and progress bars of transformers and its helpers, but not those of downloads; restore them."""
    hub, transformers = import_late("huggingface_hub.utils"), import_late("transformers.utils.logging")
    level, bars = transformers.get_verbosity(), transformers.is_progress_bar_enabled()
    hub_level, downloads_show = hub.logging.get_verbosity(), not hub.are_progress_bars_disabled()
    helpers = [(logger, logger.level) for logger in map(logging.getLogger, HELPERS)]
    transformers.set_verbosity(logging.CRITICAL)
    hub.logging.set_verbosity(logging.CRITICAL)
    for logger, _ in helpers:
        logger.setLevel(logging.CRITICAL)
    transformers.disable_progress_bar()  # the hub's as well
    if downloads_show:
        hub.enable_progress_bars()
    try:
        yield
    finally:
        transformers.set_verbosity(level)
        hub.logging.set_verbosity(hub_level)
        for logger, before in helpers:
            logger.setLevel(before)
        if bars:
            transformers.enable_progress_bar()
        if not downloads_show:
            hub.disable_progress_bars()


def _choose_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def locate(name: str | os.PathLike[str], gguf_file: str | None = None) -> str:
    """The folder of a model, checked for its files, or the hub id itself. Raises `ModelError` if it is neither."""
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"The model is {describe(name)}: give a hub id or a folder, as text.")
    name = os.fspath(name)
    folder = BUNDLED.get(name) or Path(name).expanduser()
    if any(len(part) > LONGEST for part in folder.parts):
        raise ModelError(f"The model's name has {len(name)} characters: give a hub id or a folder.")
    if folder.is_dir():
        if gguf_file is not None:
            if not (folder / gguf_file).is_file():
                raise ModelError(f"There is no file {gguf_file!r} in {folder}: check the name of the GGUF file.")
        elif not (folder / "config.json").is_file():
            fix = "give the folder that save_pretrained wrote"
            if (folder / ADAPTER_CONFIG).is_file():
                fix = "it is an adapter: give its base model, and this folder as adapter"
            raise ModelError(f"{folder} holds no config.json: {fix}.")
        elif not any(path for pattern in WEIGHTS for path in folder.glob(pattern)):
            raise ModelError(f"{folder} holds no weights (*.safetensors or *.bin): download the whole model into it.")
        return str(folder)
    if folder.is_file():
        raise ModelError(f"{name} is a file: give the folder around it.")
    if HUB_ID.fullmatch(name) is None or name.startswith("."):
        raise ModelError(f"There is no folder {name!r}: check the path, or give a hub id such as 'owner/model'.")
    return name


def read_config(where: str, options: LoadOptions | None = None, **hub: Any) -> Any:
    """The configuration of a folder or hub id. Raises `ModelError` if there is none that transformers knows."""
    options = options or LoadOptions()
    if options.revision is not None and Path(where).is_dir():  # transformers and vLLM would not look at it
        raise InputError(f"revision is for models of the hub, and {where} is a folder: leave it out.")
    file = options.gguf_file or "config.json"
    gguf = {} if options.gguf_file is None else {"gguf_file": options.gguf_file}
    try:
        return import_late("transformers").AutoConfig.from_pretrained(where, **options.source, **gguf, **hub)
    except OSError as error:
        if Path(where).is_dir():
            raise ModelError(f"The {file} of {where} cannot be read ({cause_of(error)}): download it again.") from error
        version = "" if options.revision is None else f" of revision {options.revision!r}"
        raise ModelError(
            f"There is no folder {where!r}, and no model {where!r}{version} came from the hub ({cause_of(error)}): "
            f"download it first (`hf download {where}`) or pass a local folder."
        ) from error
    except Exception as error:  # transformers raises many kinds of errors for odd contents
        raise ModelError(f"The {file} of {where} is not one that transformers knows: {cause_of(error)}") from error


def check_family(config: Any, gguf_file: str | None) -> None:
    """Raise a `FoveateError` if foveate does not support the family."""
    try:
        family(config.model_type)
    except UnknownFamilyError as error:
        if gguf_file is None:
            raise
        raise ModelError(
            f"transformers reads {gguf_file} as {config.model_type!r}, a model without images: give the folder or hub "
            "id of the whole checkpoint instead of a GGUF file."
        ) from error


def _load_weights(where: str, device: str, arguments: dict[str, Any], more: Mapping[str, Any]) -> Any:
    """The model, if all weights are there: transformers fills missing ones with random numbers and only logs it."""
    auto = import_late("transformers").AutoModelForImageTextToText
    try:
        model, info = auto.from_pretrained(where, output_loading_info=True, **arguments, **more)
        missing = sorted(info["missing_keys"])
        if missing:
            raise ModelError(
                f"The weights of {where} lack {len(missing)} of the model's tensors, for example {missing[0]!r}: "
                "download all of its files again."
            )
        return (model if "device_map" in arguments else model.to(device)).eval()
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{where} does not fit into the memory of {device}: free some, use a smaller model, quantize it, or spread "
            "it by device_map."
        ) from error
    except (ImportError, TypeError) as error:
        raise ModelError(f"{where} cannot be loaded with these options: {cause_of(error)}.") from error
    except (SafetensorError, UnpicklingError, OSError, RuntimeError, ValueError, EOFError) as error:
        if "quantization_config" in {**arguments, **more}:
            raise ModelError(f"{where} cannot be quantized here: {cause_of(error)}.") from error
        if len(set(arguments.get("device_map", ()))) > 1 and not isinstance(arguments["device_map"], str):
            raise ModelError(
                f"{where} cannot be spread by this device_map ({cause_of(error)}): keep modules that share weights on "
                "one device, such as the embeddings and lm_head."
            ) from error
        if more:
            raise ModelError(f"{where} cannot be loaded with {', '.join(more)}: {cause_of(error)}.") from error
        raise ModelError(
            f"The weights of {where} cannot be read ({cause_of(error)}): they are damaged, cut short or "
            "another model's; download them again."
        ) from error
