"""The settings of a call of `prune_inputs`, and their checks."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal, cast

from foveate.errors import InputError, describe
from foveate.method import Method, resolve
from foveate.method.blanks import BLANK
from foveate.method.budget import check_keep
from foveate.method.checks import is_int, is_number
from foveate.method.recency import Recency
from foveate.policy import Policy

Positions = Literal["original", "compact"]
Per = Literal["image", "frame", "prompt"]
Skip = float | Literal["blank"] | None
MODALITIES = ("image", "video", "audio")
Keep = int | float | Recency | Policy | Literal["auto"]
"""A number of tokens, a share of them, shares by age, a policy, or "auto" for the policy that comes with the model."""
Encode = float | Literal["auto"]
"""The largest share of an image to encode, or "auto" for as many tiles as the question needs."""


@dataclass(frozen=True)
class PruneSettings:
    """Checked settings of `prune_inputs`, which documents them.

    `keep` is a number. Where each image has a share of its own, `recency` is set, or `policy` ("auto": that of the
    model).
    """

    keep: int | float
    method: Method
    positions: Positions = "original"
    per: Per = "image"
    modalities: tuple[str, ...] = ("image", "video")
    explain: bool = False
    encode: Encode = 1.0
    max_encoder_memory: int | None = None
    skip: float | None = None
    is_partial: bool = False  # the images came encoded in part
    is_drawn: bool = False  # `keep` was drawn from several for this batch
    policy: Policy | Literal["auto"] | None = None
    recency: Recency | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this batch keeps everything that is encoded."""
        return self.policy is None and self.recency is None and not is_int(self.keep) and self.keep == 1

    @property
    def encodes_all(self) -> bool:
        """Whether images are sure to go through the encoder whole."""
        return self.encode == 1 and self.skip is None and self.max_encoder_memory is None and not self.is_partial

    @property
    def encode_share(self) -> float:
        """The largest share of an image to encode."""
        return 1.0 if self.encode == "auto" else self.encode

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever pruned."""
        return self.is_whole and self.encodes_all and not self.is_drawn


def check_settings(
    keep: Keep, method: str | Method, positions: str = "original", per: str = "image",
    modalities: Sequence[str] = ("image", "video"), explain: bool = False, encode: Encode = 1.0,
    max_encoder_memory: int | None = None, skip: Skip = None,
) -> PruneSettings:  # fmt: skip
    """Check settings that `prune_inputs` can follow. Raises a `FoveateError` that names the one that is wrong."""
    check_choices(keep, positions, per, modalities, explain)
    check_encoder_settings(encode, max_encoder_memory, skip)
    if skip is not None and encode != 1:
        raise InputError("skip and encode each choose what is encoded: leave one of them out.")
    number, policy = (1.0, keep) if isinstance(keep, (Policy, str)) else (keep, None)
    number, recency = (1.0, number) if isinstance(number, Recency) else (number, None)
    for name, value, is_whole in (("encode", encode, encode == 1), ("skip", skip, skip is None)):
        if policy is not None and not is_whole:
            raise InputError(
                f"{name}={describe(value)} is not for a policy, which was calibrated on whole images: leave {name} "
                "out, or give keep a number."
            )
    return PruneSettings(
        number, resolve(method), cast(Positions, positions), cast(Per, per), tuple(modalities), explain,
        encode="auto" if encode == "auto" else float(encode), max_encoder_memory=max_encoder_memory,
        skip=BLANK if skip == "blank" else skip, policy=policy, recency=recency,
    )  # fmt: skip


def check_encoder_settings(encode: object, max_encoder_memory: object, skip: object) -> None:
    """Raise `InputError` for a value that one of the settings about the encoder does not take."""
    check_encode_share(encode)
    _check_encoder_memory(max_encoder_memory)
    _check_skip_threshold(skip)


def check_encode_share(encode: object) -> None:
    """Raise `InputError` unless `encode` is a share in (0, 1] or "auto"."""
    if isinstance(encode, str) and encode == "auto":
        return
    if not is_number(encode) or not 0 < encode <= 1:
        raise InputError(f'encode={describe(encode)} is not a share of an image: use a float in (0, 1], or "auto".')


def _check_encoder_memory(memory: object) -> None:
    """Raise `InputError` unless `max_encoder_memory` is None or a number of bytes."""
    if memory is not None and not (is_int(memory) and isinstance(memory, int) and memory > 0):
        raise InputError(f"max_encoder_memory={describe(memory)} is no number of bytes: give one, such as 2 * 1024**3.")


def _check_skip_threshold(skip: object) -> None:
    """Raise `InputError` unless `skip` is None, "blank" or a threshold in [0, 1)."""
    if skip is None or (isinstance(skip, str) and skip == "blank"):
        return
    if not is_number(skip) or not 0 <= skip < 1:
        raise InputError(
            f'skip={describe(skip)} is no threshold: use "blank", or a float in [0, 1), the largest difference of two '
            "pixel values as a share of their range (0 for equal ones)."
        )


def check_choices(keep: Keep, positions: str, per: str, modalities: Sequence[str], explain: bool) -> None:
    """Raise a `FoveateError` for a setting of another type or value than `prune_inputs` documents."""
    if isinstance(keep, Policy) or (isinstance(keep, str) and keep == "auto"):
        if per != "image":
            raise InputError(f"per={describe(per)} is not for a policy, which chooses for each image: leave it out.")
    elif isinstance(keep, Recency):
        if per != "image":
            raise InputError(f"per={describe(per)} is not for Recency, which gives each image a share: leave it out.")
    else:
        check_keep(keep)
    if not isinstance(positions, str) or positions not in ("original", "compact"):
        raise InputError(f'positions={describe(positions)} is unknown: use "original" or "compact".')
    if not isinstance(per, str) or per not in ("image", "frame", "prompt"):
        raise InputError(f'per={describe(per)} is unknown: use "image", "frame" or "prompt".')
    if not isinstance(explain, bool):
        raise InputError(f"explain={describe(explain)} is no bool: give True or False.")
    is_collection = isinstance(modalities, (Sequence, Set)) and not isinstance(modalities, str)
    if not is_collection or not all(isinstance(m, str) and m in MODALITIES for m in modalities):
        raise InputError(
            f"modalities={describe(modalities)}: give some of {', '.join(map(repr, MODALITIES))}, in a tuple."
        )
