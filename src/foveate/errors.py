"""The exception tree. Every text says what is wrong and names the fix."""


class FoveateError(Exception):
    """Root of everything that foveate raises on purpose."""


class KeepError(FoveateError, ValueError):
    """`keep` is neither a number of tokens nor a share of them."""


class InputError(FoveateError, ValueError):
    """The inputs do not fit together, or a feature or hyper-parameter is out of range."""


class UnknownMethodError(FoveateError, ValueError):
    """No method is registered under this name."""


class UnknownFamilyError(FoveateError, ValueError):
    """No family is registered for this model type."""


class RegistryError(FoveateError):
    """A registered entry cannot be used: claimed twice, not importable, or not a class."""


class ModelError(FoveateError):
    """A model or a checkpoint cannot be used."""


class ImageError(FoveateError):
    """An image file cannot be read."""


PictureError = ImageError  # its name until 0.1


class FoveateWarning(UserWarning):
    """Something probably not meant, on which foveate carries on."""
