"""The arm that prunes nothing and shows fewer frames of a clip, or the newest images of a history alone."""

from dataclasses import dataclass
from typing import Any

import torch

from foveate.apps.evaluate.arms import ArmInputs, EvalArm
from foveate.apps.evaluate.batches import EvalBatch


@dataclass(frozen=True)
class FewerEvalArm(EvalArm):
    """All tokens of some moments of a clip, evenly spread, or of the newest images: pruning must do better.

    At least one moment or image stays, so that the smallest budgets are exceeded.
    """

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The inputs for fewer frames or images; the times of the frames stay what they were."""
        if batch.modality == "images":
            inputs = batch.process([shots[-_count(len(shots), self.budget) :] for shots in batch.images])
        else:
            inputs = _make_sparse(batch, self.budget)
        counts = batch.count_tokens(inputs)
        return inputs, [None] * len(counts), counts


def _count(total: int, keep: float) -> int:
    return min(total, max(1, round(keep * total)))


def _make_sparse(batch: EvalBatch, keep: float) -> Any:
    size = batch.loaded.model.config.vision_config.temporal_patch_size
    moments = len(batch.images[0]) // size
    count = _count(moments, keep)
    chosen = [(2 * i + 1) * moments // (2 * count) for i in range(count)]
    frames = [[clip[size * moment + part] for moment in chosen for part in range(size)] for clip in batch.images]
    inputs = batch.process(frames)
    inputs["second_per_grid_ts"] = torch.full((len(frames),), moments / count, device=batch.loaded.model.device)
    return inputs
