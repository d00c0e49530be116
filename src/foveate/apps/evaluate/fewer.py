"""The arm that prunes nothing and shows fewer frames of a clip, or the newest images of a history alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foveate.apps.evaluate.arms import ArmInputs, EvalArm
from foveate.apps.evaluate.batches import EvalBatch


@dataclass(frozen=True)
class FewerEvalArm(EvalArm):
    """All tokens of some moments of each clip, evenly spread, and of the newest images: pruning must do better.

    At least one moment or image stays, so that the smallest budgets are exceeded.
    """

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The inputs for fewer frames or images; the times of the frames stay what they were."""
        if batch.modality == "images":
            inputs = batch.process([shots[-_count(len(shots), self.budget) :] for shots in batch.images])
        elif batch.modality == "media":
            inputs = batch.process([_thin_out(batch, shown, self.budget) for shown in batch.images])
        else:
            inputs = _make_sparse(batch, self.budget)
        counts = batch.count_tokens(inputs)
        return inputs, [None] * len(counts), counts


def _count(total: int, keep: float) -> int:
    return min(total, max(1, round(keep * total)))


def _spread(moments: int, keep: float) -> list[int]:
    """The middles of equal parts of a clip."""
    count = _count(moments, keep)
    return [(2 * i + 1) * moments // (2 * count) for i in range(count)]


def _thin_out(batch: EvalBatch, shown: Sequence[Any], keep: float) -> list[Any]:
    """The newest images, and of each clip the frames of some moments."""
    size = getattr(getattr(batch.loaded.model.config, "vision_config", None), "temporal_patch_size", 1)
    images = [each for each in shown if not isinstance(each, list)]
    clips = []
    for frames in shown[len(images) :]:
        moments = [frames[start : start + size] for start in range(0, len(frames), size)]
        clips.append([frame for moment in _spread(len(moments), keep) for frame in moments[moment]])
    return [*images[len(images) - _count(len(images), keep) :], *clips]


def _make_sparse(batch: EvalBatch, keep: float) -> Any:
    size = batch.loaded.model.config.vision_config.temporal_patch_size
    moments = len(batch.images[0]) // size
    chosen = _spread(moments, keep)
    frames = [[clip[size * moment + part] for moment in chosen for part in range(size)] for clip in batch.images]
    inputs = batch.process(frames)
    inputs["second_per_grid_ts"] = torch.full((len(frames),), moments / len(chosen), device=batch.loaded.model.device)
    return inputs
