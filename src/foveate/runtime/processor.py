"""The processor of a model, also where torchvision is not installed."""

import importlib.util
from typing import Any

from foveate.errors import ModelError
from foveate.runtime.late import cause_of, import_late


def load_processor(where: str, config: Any, **source: Any) -> tuple[Any, tuple[str, ...]]:
    """The processor and notes on it; `source` is the revision. Raises `ModelError` if it cannot be loaded."""
    notes: tuple[str, ...] = ()
    try:
        try:
            processor = import_late("transformers").AutoProcessor.from_pretrained(where, **source)
        except (ImportError, ValueError) as error:
            if importlib.util.find_spec("torchvision") is not None or "torchvision" not in str(error).lower():
                raise
            processor = _make_without_videos(where, config, **source)
            notes = ("torchvision is not installed: images go through Pillow, and videos cannot be read.",)
    except ImportError as error:
        raise ModelError(f"The processor of {where} needs another package: {cause_of(error)}.") from error
    except Exception as error:  # the tokenizers library, for one, raises bare Exceptions on damaged files
        raise ModelError(
            f"The processor of {where} cannot be loaded ({cause_of(error)}): download all files."
        ) from error
    if not hasattr(processor, "image_processor"):  # AutoProcessor falls back to a bare tokenizer
        raise ModelError(f"{where} has no image processor: download its preprocessor_config.json too.")
    return processor, notes


def find_reader(processor: Any, modality: str) -> Any:
    """The part of a processor that reads "video" or "audio"; None where there is none."""
    if modality == "audio":
        return getattr(processor, "audio_processor", None) or getattr(processor, "feature_extractor", None)
    reader = getattr(processor, "video_processor", None)
    return None if isinstance(reader, _NoVideos) else reader


class _NoVideos:
    """Stand-in for a video processor, with the attributes that processors read before any video comes."""

    num_frames = fps = slice_mode = downsample_mode = None
    model_input_names = ()
    _auto_class = None  # no code of its own to save

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise `ModelError`."""
        raise ModelError("Videos cannot be read without torchvision: install it.")


def _make_without_videos(where: str, config: Any, **source: Any) -> Any:
    """The model's own processor without its video processor, which cannot be created without torchvision."""
    auto = import_late("transformers")
    stock: Any = auto.PROCESSOR_MAPPING[type(config)]

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if name == "video_processor" else stock.check_argument_for_proper_class(self, name, argument)

    parts = {
        "image_processor": auto.AutoImageProcessor.from_pretrained(where, backend="pil", **source),
        "tokenizer": auto.AutoTokenizer.from_pretrained(where, **source),
        "video_processor": None,
    }
    settings, _ = stock.get_processor_dict(where, **source)
    stand_in = _NoVideos()
    members = {
        "check_argument_for_proper_class": check,
        "video_processor": property(lambda _: stand_in, lambda _, __: None),
    }
    without_videos: Any = type(stock.__name__, (stock,), members)
    return without_videos.from_args_and_dict([parts[part] for part in stock.get_attributes()], settings)
