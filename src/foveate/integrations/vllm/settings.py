"""What a server or a request asks for, and what the engine is told to do with one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.budget import to_budget
from foveate.method.checks import is_int
from foveate.pipeline.prune import check_settings

FIELD = "foveate"
"""Where the settings stand: in the model's configuration, in `mm_processor_kwargs`, among a picture's own fields."""


@dataclass(frozen=True)
class Settings:
    """How a request's pictures are pruned; the fields are those of `foveate.integrations.vllm.overrides`.

    Raises a `FoveateError` for a value that cannot be used.
    """

    keep: int | float
    method: str = "foveate"
    positions: str = "original"
    turn: str = "last"

    def __post_init__(self) -> None:
        method = check_settings(self.keep, self.method, self.positions)
        if method.needs:
            raise InputError(
                f"{method.name} reads {' and '.join(sorted(method.needs))} from the vision tower, which vLLM does not "
                "give: use another method (`foveate methods`), or transformers."
            )
        if self.turn not in ("last", "own"):
            raise InputError(f'turn={self.turn!r} is unknown: use "last" or "own".')

    @classmethod
    def read(cls, given: object) -> Settings:
        """The settings that the model was started with. Raises a `FoveateError` if there are none."""
        if not isinstance(given, Mapping) or "keep" not in given:
            raise InputError(
                'Pruning was asked for without a keep: start vLLM with --hf-overrides \'{"architectures": [...], '
                '"foveate": {"keep": 0.2}}\', or let `foveate serve` write that.'
            )
        return cls(**_known(given))

    def changed(self, given: object) -> Settings:
        """With what a request asks for. Raises a `FoveateError` if it is malformed."""
        if given is None:
            return self
        if not isinstance(given, Mapping):
            raise InputError(f'"{FIELD}" is {given!r}: give an object such as {{"keep": 0.1}}.')
        return replace(self, **_known(given))

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @property
    def whole(self) -> bool:
        """Whether all tokens stay."""
        return not is_int(self.keep) and self.keep == 1

    def count(self, free: int) -> int:
        """How many of so many tokens stay."""
        return to_budget(min(self.keep, free) if is_int(self.keep) else self.keep, free)


def _known(given: Mapping[Any, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(Settings)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no setting of foveate inside vLLM: it has {', '.join(names)}.")
    return dict(given)


@dataclass(frozen=True)
class Order:
    """What is to be done with one picture: keep `kept` of its `total` tokens. `question` are token ids.

    It travels through the engine with the picture, as one of its fields.
    """

    kept: int
    total: int
    method: str
    positions: str
    question: tuple[int, ...]

    def pack(self) -> Tensor:
        """As bytes: (n,) uint8."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @classmethod
    def unpack(cls, packed: Any) -> Order:
        """From its bytes."""
        given = json.loads(bytes(packed.tolist()))
        return cls(**{**given, "question": tuple(given["question"])})
