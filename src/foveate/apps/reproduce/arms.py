"""The arms of a run: the unpruned model, then every method at every budget."""

from dataclasses import dataclass
from urllib.parse import quote

from foveate.apps.evaluate.settings import AnyMethod, parse_keeps, parse_methods
from foveate.errors import InputError
from foveate.method.foveate import Foveate
from foveate.method.registry import METHODS

ALL = "all"
UNPRUNED = "unpruned"


@dataclass(frozen=True)
class LmmsArm:
    """A run of lmms-eval: a method at a budget. An `optional` one is left out where the model cannot run it.

    `keep` is a number of tokens of an image, a share of them, or None for the unpruned model.
    """

    name: str
    method: AnyMethod
    keep: int | float | None
    optional: bool = False

    @property
    def label(self) -> str:
        """Unique among the arms of a run."""
        return self.name if self.keep is None else f"{self.name} @ {self.keep}"

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return quote(self.label, safe=" @(),=")


def make_arms(methods: str, keep: str) -> list[LmmsArm]:
    """The arms of `--methods` and `--keep`. Raises a `FoveateError` that says what is wrong with which part."""
    keeps, is_all = parse_keeps(keep), methods.strip() == ALL
    chosen = parse_methods(",".join(METHODS.names()) if is_all else methods)
    arms = [LmmsArm(name, method, each, is_all) for name, method in chosen.items() for each in keeps]
    return [LmmsArm(UNPRUNED, Foveate(), None), *arms]


def split_names(benchmarks: str) -> list[str]:
    """The names of `--benchmarks`. Raises `InputError` if one is empty or is there twice."""
    names = [name.strip() for name in benchmarks.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise InputError(f"--benchmarks {benchmarks!r}: name each benchmark once, with commas between them.")
    return names
