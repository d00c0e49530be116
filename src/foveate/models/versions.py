"""Which versions of transformers foveate is tested with."""

import warnings
from functools import cache
from importlib.metadata import version

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from foveate.errors import FoveateWarning

NEWEST_TESTED = "5.24"


@cache
def is_installed(versions: str) -> bool:
    """Whether the installed transformers is in the range `versions`, such as ">=5.18"."""
    return SpecifierSet(versions).contains(version("transformers"), prereleases=True)


@cache
def warn_if_untested() -> None:
    """Warn, once per process, where the installed transformers is newer than `NEWEST_TESTED`."""
    installed = version("transformers")
    if Version(installed).release[:2] > Version(NEWEST_TESTED).release[:2]:
        warnings.warn(
            f"foveate is tested with transformers up to {NEWEST_TESTED}, and this is {installed}: "
            "`foveate doctor --model ...` checks your model with it.",
            FoveateWarning,
            stacklevel=3,
        )
