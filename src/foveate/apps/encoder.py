"""What of an image goes through the encoder, as users of the programs write it, and the time that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.method import Method
    from foveate.method.inner import InnerMethod
    from foveate.models.visual_input import VisualInput
    from foveate.pipeline.report import PrunedInputs
    from foveate.pipeline.settings import Encode, Skip

MIB = 2**20


@dataclass(frozen=True)
class EncoderOptions:
    """The settings of `prune_inputs` about the encoder, by their names. Programs hand them on as `vars(options)`."""

    encode: Encode = 1.0
    skip: Skip = None
    max_encoder_memory: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether everything is encoded."""
        return self == WHOLE

    @property
    def label(self) -> str:
        """What is not the default, for the name of an arm: `encode 0.4`, `skip blank`."""
        return ", ".join(f"{name} {value}" for name, value in vars(self).items() if value != vars(WHOLE)[name])


WHOLE = EncoderOptions()


def parse_encode(text: str, option: str = "--encode") -> EncoderOptions:
    """A share in (0, 1], or "auto". Raises `InputError` for anything else."""
    if text.strip() == "auto":
        return EncoderOptions("auto")
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"{option} {text!r} is not a share of an image: use a number in (0, 1], such as 0.4, or auto.")
    return EncoderOptions(share)


def parse_skip(text: str, option: str = "--skip") -> float | Literal["blank"]:
    """A threshold in [0, 1), or "blank". Raises `InputError` for anything else."""
    if text.strip() == "blank":
        return "blank"
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold < 1:
        raise InputError(f"{option} {text!r} is no threshold: use blank, or a number in [0, 1), 0 for equal pixels.")
    return threshold


def parse_bytes(text: str) -> int:
    """A number of bytes. Raises `InputError` for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"max_encoder_memory={text!r} is no number of bytes: give one, such as {2**30}.")
    return int(text)


def parse_encoder(encode: str, skip: str | None = None, memory: int | None = None) -> EncoderOptions:
    """The options of a command: `--encode`, `--skip` and, in MiB, `--max-encoder-memory`."""
    share = parse_encode(encode).encode
    if skip is not None and share != 1:
        raise InputError("--skip and --encode each choose what is encoded: leave one of them out.")
    return EncoderOptions(share, None if skip is None else parse_skip(skip), None if memory is None else memory * MIB)


def parse_encoders(encode: str, skip: str | None = None) -> list[EncoderOptions]:
    """An arm for each of `"0.4,0.6"`, without 1.0, with which every arm is measured anyway, and of `"blank,0"`."""
    shares = [parse_encode(part) for part in encode.split(",")]
    skips = [] if skip is None else [EncoderOptions(skip=parse_skip(part)) for part in skip.split(",")]
    for option, arms, text in (("encode", shares, encode), ("skip", skips, skip)):
        if len(set(arms)) < len(arms):
            raise InputError(f"--{option} {text!r} names a value twice: leave one of them out.")
    return [each for each in (*shares, *skips) if not each.is_whole]


def check_method(options: EncoderOptions, method: Method | InnerMethod) -> None:
    """Raise `InputError` for a method that prunes inside the decoder where the encoder leaves something out."""
    from foveate.method.inner import InnerMethod

    if isinstance(method, InnerMethod) and not options.is_whole:
        raise InputError(f"{options.label} is not for {method.name}, which sees the whole image: leave it out.")


def encodes_all(settings: Mapping[str, Any]) -> bool:
    """Whether settings of `prune_inputs` leave nothing out of the encoder, so that its output may be shared."""
    return all(settings.get(name, value) == value for name, value in vars(WHOLE).items())


def list_shares(items: Sequence[VisualInput]) -> list[float]:
    """The share that was encoded, of each item."""
    return [round(item.encoded_share, 4) for item in items]


def prune_timed(
    model: Any, inputs: Mapping[str, Any], encoded: Any = None, **settings: Any
) -> tuple[PrunedInputs, float, float]:
    """`prune_inputs`, and the seconds of the encoder and of the selection; images that are not `encoded` are first.

    Where some tiles are left out the encoder runs within `prune_inputs`, whose report counts the selection alone.
    """
    from foveate.models import family_of
    from foveate.models.inputs import find_modalities
    from foveate.pipeline.encode import encode
    from foveate.pipeline.prune import prune_inputs
    from foveate.runtime.timing import StageTimer

    timer = StageTimer(model.device)
    if encodes_all(settings) and encoded is None and set(find_modalities(family_of(model), inputs)) - {"audio"}:
        encoded = encode(model, inputs, methods=[settings["method"]])
    timer.lap("encode")
    short = prune_inputs(model, inputs, encoded=encoded, **settings)
    timer.lap("select")
    report = short.report
    inside = timer.laps["select"] - report.seconds if encoded is None and report.items else 0.0
    return short, timer.laps["encode"] + inside, timer.laps["select"] - inside
