"""Training with pruning on, beside what `foveate.attach` does for any trainer: self-distillation, and evaluation.

`docs/tuning.md` shows both with TRL and PEFT.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import TrainerCallback

from foveate.errors import InputError
from foveate.hooks.attach import pruning
from foveate.hooks.chain import find_chain
from foveate.hooks.drawn import draw_settings
from foveate.hooks.handles import find_newest
from foveate.method.budget import check_keep
from foveate.method.checks import check_positive
from foveate.models.sequence import IGNORED_LABEL
from foveate.models.wrappers import unwrap
from foveate.pipeline.labels import ignore_placeholders
from foveate.pipeline.prune import prune

OUTSIDE = ("labels", "num_items_in_batch", "logits_to_keep", "use_cache")  # inputs that only a loss or a cache needs


def self_distillation_loss(model: Any, inputs: Mapping[str, Any], *, temperature: float = 1.0) -> Tensor:
    """How far the pruned model's answer is from the model's own answer with all visual tokens.

    The Kullback-Leibler divergence between the distributions of the next token, unpruned to pruned, mean over the
    answer. The unpruned pass takes no gradient; the adapters of a PEFT model are off in it.

    Args:
        model: A model to which `foveate.attach` is attached, with its `keep`; also inside PEFT, DDP or `torch.compile`.
        inputs: The model's inputs with the answer in `input_ids` (b, L). `labels` (b, L), where there are some, say
            which tokens are the answer, by not being -100; without them all text counts.
        temperature: Both distributions are softened by it.

    Returns:
        The loss, a scalar with a gradient.

    Raises:
        InputError: Nothing is attached, nothing is to be learned from this batch, or the temperature is not above 0.

    Example:
        class Distillation(Trainer):
            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                return foveate.tuning.self_distillation_loss(model, inputs)
    """
    check_positive("temperature", temperature)
    inner = unwrap(model)
    chain = find_chain(inner)
    if chain is None:
        raise InputError("Nothing is pruned: call foveate.attach(model, keep=...) before the loss.")
    handle = find_newest(chain.handles)
    settings = replace(draw_settings(inner, handle.settings, handle.draws, writes=False), is_drawn=True)
    batch = {name: value for name, value in inputs.items() if name not in OUTSIDE}
    labelled = ignore_placeholders(inner, chain.family, {**batch, "labels": _find_labels(inputs)}, settings)
    short = prune(inner, labelled, settings)
    handle.last_report = short.report
    kept_labels = short.data.pop("labels")
    student = _select_answer(model(**short, use_cache=False).logits, kept_labels)
    without_adapters = getattr(model, "disable_adapter", nullcontext)
    with torch.no_grad(), pruning(inner, keep=1.0), without_adapters():
        teacher = _select_answer(model(**batch, use_cache=False).logits, labelled["labels"])
    if not len(student):
        raise InputError("labels leave no token of an answer in this batch: give labels other than -100, or none.")
    log_student, log_teacher = ((logits.float() / temperature).log_softmax(-1) for logits in (student, teacher))
    return kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def _find_labels(inputs: Mapping[str, Any]) -> Tensor:
    """The caller's labels, or all that is not padding."""
    labels, ids, mask = inputs.get("labels"), inputs["input_ids"], inputs.get("attention_mask")
    text: Tensor = ids if mask is None else ids.masked_fill(mask == 0, IGNORED_LABEL)
    return labels if isinstance(labels, Tensor) else text


def _select_answer(logits: Tensor, labels: Tensor) -> Tensor:
    """(b, L, v) logits -> (n, v): those that a label follows."""
    selected: Tensor = logits[:, :-1][labels[:, 1:].to(logits.device) != IGNORED_LABEL]
    return selected


class BudgetEvaluation(TrainerCallback):
    """Evaluates at fixed budgets whenever a trainer evaluates; their metrics are named `eval_keep_<keep>_loss` etc.

    Args:
        trainer: The trainer that evaluates its `eval_dataset`; `foveate.attach` may be attached to its model or not.
        budgets: Values of `keep`, each a number of tokens or a share. 1.0 is the unpruned model.

    Raises:
        KeepError: A budget is none.

    Example:
        trainer.add_callback(foveate.tuning.BudgetEvaluation(trainer, [0.05, 0.2, 1.0]))
    """

    def __init__(self, trainer: Any, budgets: Sequence[int | float]) -> None:
        for keep in budgets:
            check_keep(keep)
        self.trainer, self.budgets = trainer, tuple(budgets)
        self._is_running = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Evaluate once more for every budget."""
        if self._is_running:
            return
        self._is_running = True
        try:
            for keep in self.budgets:
                # A list of one: placeholders are no labels at any budget, so that the losses can be compared.
                with pruning(self.trainer.model, keep=[keep]):
                    self.trainer.evaluate(metric_key_prefix=f"eval_keep_{keep}")
        finally:
            self._is_running = False
