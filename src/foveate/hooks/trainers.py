"""Pruning inside transformers' `Trainer` and those that derive from it (TRL): what is counted, and what comes back.

A trainer counts the labels of a batch before it calls the model, so placeholders leave the labels before that.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from torch import Tensor

from foveate.errors import InputError
from foveate.models import Family
from foveate.models.sequence import Layout
from foveate.pipeline.labels import ignore_placeholders
from foveate.pipeline.settings import PruneSettings

FUSED = "fused_lm_head"  # the argument by which TRL asks a model for scores of the labels instead of logits
COUNT = "_get_num_items_in_batch"  # the method of a trainer that counts the labels of the batches of a step
MARK = "foveate_counts"  # the attribute of ours
Read = Callable[[Any], tuple[Any, Family, PruneSettings] | None]
"""From a trainer's model, perhaps wrapped, to the model, its adapter and the settings of its pruning; None without."""


def watch_trainers(read_settings: Read) -> None:
    """Let every `Trainer` of a pruned model count the labels without placeholders; other trainers stay as they are."""
    from transformers.trainer import Trainer  # imported late: importing foveate does not wait for it

    stock = getattr(Trainer, COUNT)
    if hasattr(stock, MARK):
        return

    @functools.wraps(stock)
    def count(trainer: Any, batch_samples: list[Any], device: Any) -> Any:
        pruned = read_settings(trainer.model)
        if pruned is not None:
            _check_loss(trainer)
            for batch in filter(_has_labels, batch_samples):
                batch.update(ignore_placeholders(pruned[0], pruned[1], batch, pruned[2]))
        return stock(trainer, batch_samples, device)

    setattr(count, MARK, True)
    setattr(Trainer, COUNT, count)


def _has_labels(batch: Any) -> bool:
    return isinstance(batch, MutableMapping) and "labels" in batch


def check_count(model: Any, family: Family, inputs: Mapping[str, Any], settings: PruneSettings) -> None:
    """Raise `InputError` for labels on placeholders in a call whose loss is divided by an earlier count of them."""
    is_counted = inputs.get("num_items_in_batch") is not None or (inputs.get(FUSED) and model.training)
    if is_counted and ignore_placeholders(model, family, inputs, settings) is not inputs:
        raise InputError(
            "labels hold placeholders of images, which are no labels under pruning, and the loss is divided by a "
            "number that counts them: set labels[labels == image_token_id] = -100 before the labels are counted."
        )


def restore_scores(output: Any, layout: Layout) -> Any:
    """What TRL's fused head returned, (b, L' - 1) scores of each next token, in the columns of the caller's labels."""
    width = layout.index.shape[1] - 1
    scores = {n: v for n, v in output.items() if isinstance(v, Tensor) and v.ndim == 2 and v.shape[1] == width}
    return dataclasses.replace(output, **{name: layout.restore(value) for name, value in scores.items()})


def _check_loss(trainer: Any) -> None:
    """Raise `InputError` for a loss that a trainer takes of the logits itself, with the labels of all tokens."""
    reasons = {
        "label_smoothing_factor": getattr(trainer, "label_smoother", None),
        "compute_loss_func": getattr(trainer, "compute_loss_func", None),
    }
    for name, value in reasons.items():
        if value is not None:
            raise InputError(
                f"{name} compares the logits of the tokens that stay with the labels of all tokens: leave it out, or "
                "override compute_loss and take the loss of model(**inputs), which shortens the labels too."
            )
