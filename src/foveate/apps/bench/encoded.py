"""What it saves to encode some tiles: ratios to the same budget with all tiles encoded, within a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foveate.apps.bench.arms import EncodedBenchArm
from foveate.apps.bench.spread import Spread

HEADS = (
    "beside the same budget with all tiles", "parts encoded", "time to first token, times as fast",
    "vision encoder, times its time", "peak memory up to the selection, times its peak",
)  # fmt: skip


@dataclass(frozen=True)
class EncodedFigures:
    """An arm beside the one of the same budget that encodes all tiles.

    `faster` is its time to first token over the arm's, `encoder` the arm's seconds of the encoder over its own, `peak`
    the same of the most memory up to the selection; None where no memory was counted.
    """

    faster: Spread
    encoder: Spread
    peak: float | None


def compare_encoders(arm: EncodedBenchArm) -> EncodedFigures:
    """The figures of a measured arm."""
    own, other = arm.encoder_peak, arm.beside.encoder_peak
    peak = own.above / other.above if own is not None and other is not None and other.above else None
    return EncodedFigures(
        _divide(arm.beside.seconds["first_token"], arm.seconds["first_token"]),
        _divide(arm.seconds["encoder"], arm.beside.seconds["encoder"]),
        peak,
    )


def _divide(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The ratios within the rounds."""
    return Spread.from_values([one / other for one, other in zip(over, under, strict=True)])


def to_encoded_record(arm: EncodedBenchArm) -> dict[str, Any]:
    """The figures as JSON."""
    figures, (count, total) = compare_encoders(arm), arm.tiles
    return {**vars(arm.encoder), "encoded": count / total, "tiles": [count, total], **asdict(figures)}


def list_rows(arms: Sequence[EncodedBenchArm]) -> list[list[str]]:
    """The rows of a table under `HEADS`."""
    return [_make_row(arm, compare_encoders(arm)) for arm in arms]


def _make_row(arm: EncodedBenchArm, figures: EncodedFigures) -> list[str]:
    peak = "-" if figures.peak is None else f"{figures.peak:.2f}"
    tiles = "{} of {}".format(*arm.tiles)
    return [arm.name, tiles, figures.faster.format(1, 2), figures.encoder.format(1, 2), peak]
