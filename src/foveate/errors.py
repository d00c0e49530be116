"""The exceptions and warnings of foveate. Every message says what is wrong and how to fix it."""


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


PictureError = ImageError  # its name until 0.1


class FoveateWarning(UserWarning):
    """An input that is probably a mistake; foveate goes on."""
