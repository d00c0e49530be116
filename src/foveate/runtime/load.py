"""`load`: a model and its processor, from the hub, from a folder, or one of the two small bundled ones."""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from foveate.errors import ModelError
from foveate.models.lookup import family
from foveate.runtime.chat_template import learn_template

MODELS = Path(__file__).parents[1] / "world" / "models"
BUNDLED = {"bundled": MODELS / "llava", "bundled-qwen": MODELS / "qwen"}
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """What `load` returns: a model with its processor.

    Attributes:
        model: The model, in evaluation mode, on its device.
        processor: The model's processor.
        notes: Sentences that a user should know, such as a package that is not installed.
        name: The name that `load` was called with.
    """

    model: Any
    processor: Any
    notes: tuple[str, ...]
    name: str


def load(name: str = "bundled") -> LoadedModel:
    """Load a vision-language model and its processor.

    The model goes to CUDA or MPS where there is one, else to the CPU, in the data type of its checkpoint; the bundled
    models, stored in half precision, compute in float32 on a CPU. How the chat template marks the question is learned
    at once (`learn_template`), unless the checkpoint's configuration says it.

    Args:
        name: A hub id, a local folder that `save_pretrained` wrote, or one of two small models that know drawn scenes
            only: "bundled" (LLaVA's architecture) and "bundled-qwen" (Qwen2.5-VL's).

    Returns:
        The model, its processor and notes, as a `LoadedModel`.

    Raises:
        ModelError: The model cannot be found or read.
        UnknownFamilyError: foveate does not support its family. No weights were read.

    Example:
        >>> loaded = foveate.load("Qwen/Qwen2.5-VL-3B-Instruct")
        >>> inputs = loaded.processor(images=[image], text=[prompt], return_tensors="pt").to(loaded.model.device)
        >>> short = foveate.prune_inputs(loaded.model, inputs, keep=0.1)
    """
    where, device = locate(name), _choose_device()
    config = read_config(where)
    family(config.model_type)
    # The processor is small and comes first: its errors show before gigabytes are read.
    processor, notes = _load_processor(where, config)
    model = _load_weights(where, device, torch.float32 if name in BUNDLED and device == "cpu" else "auto")
    if getattr(model.config, "foveate_template", None) is None:
        try:
            learn_template(model, processor)
        except ModelError as error:
            notes = (*notes, f"The question is found by special tokens alone. {error}")
    return LoadedModel(model, processor, notes, name)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs and progress bars of transformers, but not those of downloads; restore its settings after."""
    hub, logging = _import("huggingface_hub.utils"), _import("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_level, downloads_show = hub.logging.get_verbosity(), not hub.are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    hub.logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()  # the hub's as well
    if downloads_show:
        hub.enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.logging.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()
        if not downloads_show:
            hub.disable_progress_bars()


def _import(name: str) -> Any:
    """Import late, as transformers is slow to import, and untyped, as its annotations are not reliable."""
    return importlib.import_module(name)


def _choose_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def locate(name: str) -> str:
    """The folder of a model, checked for its files, or the hub id itself. Raises `ModelError` if it is neither."""
    folder = BUNDLED.get(name) or Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} holds no config.json: give the folder that save_pretrained wrote.")
        if not any(path for pattern in WEIGHTS for path in folder.glob(pattern)):
            raise ModelError(f"{folder} holds no weights (*.safetensors or *.bin): download the whole model into it.")
        return str(folder)
    if folder.is_file():
        raise ModelError(f"{name} is a file: give the folder around it.")
    if HUB_ID.fullmatch(name) is None or name.startswith("."):
        raise ModelError(f"There is no folder {name!r}: check the path, or give a hub id such as 'owner/model'.")
    return name


def read_config(where: str) -> Any:
    """The configuration of a folder or hub id. Raises `ModelError` if there is none that transformers knows."""
    try:
        return _import("transformers").AutoConfig.from_pretrained(where)
    except OSError as error:
        if Path(where).is_dir():
            raise ModelError(
                f"The config.json of {where} cannot be read ({_cause(error)}): download it again."
            ) from error
        raise ModelError(
            f"There is no folder {where!r}, and no model {where!r} came from the hub ({_cause(error)}): "
            f"download it first (`hf download {where}`) or pass a local folder."
        ) from error
    except Exception as error:  # transformers raises many kinds of errors for odd contents
        raise ModelError(f"The config.json of {where} is not one that transformers knows: {_cause(error)}") from error


def _load_weights(where: str, device: str, dtype: Any) -> Any:
    """The model, if all weights are there: transformers fills missing ones with random numbers and only logs it."""
    auto = _import("transformers").AutoModelForImageTextToText
    try:
        model, info = auto.from_pretrained(where, dtype=dtype, output_loading_info=True)
    except (SafetensorError, UnpicklingError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(
            f"The weights of {where} cannot be read ({_cause(error)}): they are damaged, cut short or "
            "another model's; download them again."
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights of {where} lack {len(missing)} of the model's tensors, for example {missing[0]!r}: "
            "download all of its files again."
        )
    try:
        return model.to(device).eval()
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(
            f"{where} does not fit into the memory of {device}: free some, or use a smaller model."
        ) from error


def _load_processor(where: str, config: Any) -> tuple[Any, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    try:
        try:
            processor = _import("transformers").AutoProcessor.from_pretrained(where)
        except (ImportError, ValueError) as error:
            if importlib.util.find_spec("torchvision") is not None or "torchvision" not in str(error).lower():
                raise
            processor = _make_without_videos(where, config)
            notes = ("torchvision is not installed: images go through Pillow, and videos cannot be read.",)
    except ImportError as error:
        raise ModelError(f"The processor of {where} needs another package: {_cause(error)}.") from error
    except Exception as error:  # the tokenizers library, for one, raises bare Exceptions on damaged files
        raise ModelError(f"The processor of {where} cannot be loaded ({_cause(error)}): download all files.") from error
    if not hasattr(processor, "image_processor"):  # AutoProcessor falls back to a bare tokenizer
        raise ModelError(f"{where} has no image processor: download its preprocessor_config.json too.")
    return processor, notes


class _NoVideos:
    """Stand-in for a video processor, with the attributes that processors read before any video comes."""

    num_frames = fps = slice_mode = downsample_mode = None
    model_input_names = ()

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise `ModelError`."""
        raise ModelError("Videos cannot be read without torchvision: install it.")


def _make_without_videos(where: str, config: Any) -> Any:
    """The model's own processor without its video processor, which cannot be created without torchvision."""
    auto = _import("transformers")
    stock: Any = auto.PROCESSOR_MAPPING[type(config)]

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if name == "video_processor" else stock.check_argument_for_proper_class(self, name, argument)

    parts = {
        "image_processor": auto.AutoImageProcessor.from_pretrained(where, backend="pil"),
        "tokenizer": auto.AutoTokenizer.from_pretrained(where),
        "video_processor": None,
    }
    settings, _ = stock.get_processor_dict(where)
    stand_in = _NoVideos()
    members = {
        "check_argument_for_proper_class": check,
        "video_processor": property(lambda _: stand_in, lambda _, __: None),
    }
    without_videos: Any = type(stock.__name__, (stock,), members)
    return without_videos.from_args_and_dict([parts[part] for part in stock.get_attributes()], settings)


def _cause(error: Exception) -> str:
    """The first line of another library's error, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:") if lines else type(error).__name__
