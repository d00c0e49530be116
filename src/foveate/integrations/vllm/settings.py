"""The settings of a server or a request, and the plan for one image or clip that travels through the engine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.budget import to_budget
from foveate.method.checks import is_int
from foveate.pipeline.settings import check_encode_share, check_settings

FIELD = "foveate"
"""The key of the settings in the model's configuration, in `mm_processor_kwargs`, and among an image's own fields."""
PLAN_FIELDS = {"image": FIELD, "video": "foveate_video"}
"""The field in which the plan of an image or a clip travels: vLLM has the fields of each modality apart."""
REUSE = ("question", "picture", "auto")
Words = Sequence[tuple[int, int]]
"""What stands among an image's tokens or between a clip's frames: pairs of a place among its tokens and a token id."""
Layout = tuple[tuple[int, int], Words]
"""How many tokens an image or clip has, and how many of them are protected; the words among them."""


@dataclass(frozen=True)
class VllmSettings:
    """How the images and clips of a request are pruned.

    Args:
        keep, method, positions: as for `foveate.prune_inputs`.
        turn: "last" or "own", as for `foveate.integrations.vllm.overrides`.
        reuse: "question", "picture" or "auto", as for `foveate.integrations.vllm.overrides`.
        encode: 1.0 alone: vLLM encodes an image whole.

    Raises:
        FoveateError: if a value cannot be used.
    """

    keep: int | float
    method: str = "foveate"
    positions: str = "original"
    turn: str = "last"
    reuse: str = "question"
    encode: float = 1.0

    def __post_init__(self) -> None:
        check_encode_share(self.encode)
        if self.encode != 1:
            raise InputError(f"vLLM encodes an image whole: leave encode={self.encode} out, or use transformers.")
        checked = check_settings(self.keep, self.method, self.positions)
        if checked.policy is not None:
            raise InputError(
                "vLLM fixes the number of tokens before it encodes an image, and a policy reads the encoded image: "
                "give keep a number, or use transformers."
            )
        if checked.recency is not None:
            raise InputError(
                "vLLM prunes each image without those beside it, and Recency counts them: give keep a number, or use "
                "transformers."
            )
        method = checked.method
        if method.needs:
            raise InputError(
                f"{method.name} reads {' and '.join(sorted(method.needs))} from inside the model, which vLLM does not "
                "give: use another method (`foveate methods`), or transformers."
            )
        if self.turn not in ("last", "own"):
            raise InputError(f'turn={self.turn!r} is unknown: use "last" or "own".')
        if self.reuse not in REUSE:
            raise InputError(f"reuse={self.reuse!r} is unknown: use {', '.join(REUSE)}.")

    @classmethod
    def from_config(cls, config: Any) -> VllmSettings:
        """The settings in a model's configuration. Raises a `FoveateError` if there are none."""
        values = getattr(config, FIELD, None)
        if not isinstance(values, Mapping) or "keep" not in values:
            raise InputError(
                'Pruning needs a value for keep: start vLLM with --hf-overrides \'{"architectures": [...], '
                '"foveate": {"keep": 0.2}}\', or let `foveate serve` write that.'
            )
        return cls(**_check_names({name: value for name, value in values.items() if name not in ENGINE_NAMES}))

    def override(self, values: object) -> VllmSettings:
        """These settings with those of a request in their place. Raises a `FoveateError` if they are malformed."""
        if values is None:
            return self
        if not isinstance(values, Mapping):
            raise InputError(f'"{FIELD}" is {values!r}: pass an object such as {{"keep": 0.1}}.')
        return replace(self, **_check_names(values))

    @property
    def keeps_all(self) -> bool:
        """Whether all tokens stay."""
        return not is_int(self.keep) and self.keep == 1

    def count_kept(self, available: int) -> int:
        """How many of an image's `available` tokens stay (protected ones are not counted)."""
        return to_budget(min(self.keep, available) if is_int(self.keep) else self.keep, available)

    def make_plan(self, count: tuple[int, int], words: Words, question: Sequence[int], content: str) -> ImagePlan:
        """The plan for an image or clip with so many tokens, of which some are protected, and these words."""
        total, protected = count
        kept = total if self.keeps_all else protected + self.count_kept(total - protected)
        more, names = len(words), (self.method, self.positions)
        return ImagePlan(kept + more, total + more, *names, tuple(question), content, tuple(words))


@dataclass(frozen=True)
class EngineSettings:
    """What is set once, at the start of the engine.

    Args:
        feature_cache_gib: GiB of the host's memory in each worker for the encoder's features of whole images, which
            serve further questions about them; 0 keeps none.

    Raises:
        InputError: if a value cannot be used.
    """

    feature_cache_gib: float = 0.25

    def __post_init__(self) -> None:
        size = self.feature_cache_gib
        if isinstance(size, bool) or not isinstance(size, int | float) or not math.isfinite(size) or size < 0:
            raise InputError(f"feature_cache_gib={size!r} is not a size: give a number of GiB such as 0.25, or 0.")

    @property
    def max_bytes(self) -> int:
        """The size in bytes."""
        return int(self.feature_cache_gib * 2**30)

    @classmethod
    def from_config(cls, config: Any) -> EngineSettings:
        """The settings in a model's configuration. Raises `InputError` if they cannot be used."""
        values = getattr(config, FIELD, None) or {}
        return cls(**{name: values[name] for name in ENGINE_NAMES if name in values})


ENGINE_NAMES = tuple(field.name for field in fields(EngineSettings))


def _check_names(values: Mapping[Any, Any]) -> dict[str, Any]:
    names = [field.name for field in fields(VllmSettings)]
    for name in ENGINE_NAMES:
        if name in values:
            raise InputError(f"{name} is set when vLLM starts, not in a request: leave it out.")
    unknown = [name for name in values if name not in names]
    if unknown:
        raise InputError(f"foveate inside vLLM has no setting {unknown[0]!r}: it has {', '.join(names)}.")
    return dict(values)


@dataclass(frozen=True)
class ImagePlan:
    """How one image or clip is pruned. It travels through the engine as one of its fields.

    `kept` of its `total` tokens stay (protected ones counted); `question` holds token ids; `image` is a hash of its
    content, empty where its features are not to be kept. `words` stand among the tokens of an image or between a
    clip's frames, such as timestamps; they are counted and stay.
    """

    kept: int
    total: int
    method: str
    positions: str
    question: tuple[int, ...]
    image: str = ""
    words: tuple[tuple[int, int], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all tokens stay; then vLLM handles it as without pruning."""
        return self.kept == self.total

    @property
    def visual(self) -> list[int]:
        """The places of its visual tokens among all of its tokens, ascending."""
        words = {place for place, _ in self.words}
        return [place for place in range(self.total) if place not in words]

    def pack(self) -> Tensor:
        """The plan as bytes: (n,) uint8."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @classmethod
    def unpack(cls, packed: Tensor) -> ImagePlan:
        """The plan from its bytes."""
        values = json.loads(bytes(packed.tolist()))
        words = tuple((place, token) for place, token in values["words"])
        return cls(**{**values, "question": tuple(values["question"]), "words": words})
