"""The exceptions and warnings of foveate. Every message says what is wrong and how to fix it."""

import sys

LONGEST = 60  # characters of a value in a message


def describe(value: object) -> str:
    """The value as a message names it: itself if it is short, else its type."""
    kind = type(value).__name__
    torch = sys.modules.get("torch")  # not imported here: the command line's help does not wait for it
    if torch is not None and isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if not value.is_nested else "a nested tensor"
    try:
        text = repr(value)
    except Exception:  # of a class that is not ours
        return _name_kind(kind)
    return text if len(text) <= LONGEST and "\n" not in text else _name_kind(kind)


def _name_kind(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


class FoveateError(Exception):
    """Base class of all errors that foveate raises on purpose."""


class KeepError(FoveateError, ValueError):
    """`keep` is neither a number of tokens nor a share of them."""


class InputError(FoveateError, ValueError):
    """The inputs do not fit together, or an input or a hyper-parameter is out of range."""


class EncoderError(FoveateError, RuntimeError):
    """The model's own code cannot read the inputs; the error that it raised is the cause."""


class UnknownMethodError(FoveateError, ValueError):
    """No method is registered under this name."""


class UnknownFamilyError(FoveateError, ValueError):
    """No family is registered for this model type."""


class RegistryError(FoveateError):
    """A registered entry cannot be used: two packages claim it, its import fails, or it is not a class."""


class ModelError(FoveateError):
    """A model or a checkpoint cannot be used."""


class ImageError(FoveateError):
    """An image file cannot be read."""


class VideoError(FoveateError):
    """A video file cannot be read, or not from some frame on."""


PictureError = ImageError  # its name until 0.1


class FoveateWarning(UserWarning):
    """An input that is probably a mistake; foveate goes on."""
