"""Trainers with a learning rate of 0, and their losses by hand: the stock model with the dropped tokens masked."""

from itertools import pairwise

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

import foveate
from foveate.conformance.registry import to_tiny_family
from foveate.models import family_of
from foveate.models.wrappers import unwrap

KEEP = 3
COMMON = {
    "learning_rate": 0.0, "max_steps": 2, "per_device_train_batch_size": 2, "logging_steps": 1, "use_cpu": True,
    "bf16": False, "report_to": [], "save_strategy": "no", "disable_tqdm": True, "max_grad_norm": 1e9,
}  # fmt: skip
QUESTIONS = ("what color is the star", "how many are there", "what shape is the red", "answer")
ANSWERS = ("red", "one blue circle with one star", "star", "blue")
MARKED = "{% generation %}{{ PART }}{% endgeneration %}"


def make_images(count, seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 255, (side, 40, 3), np.uint8)) for side in rng.integers(30, 60, count)]


def make_rows(kind, images=(1, 1, 1, 1)):
    """Rows of a dataset: "messages", or "prompt" and "completion"; "chosen" and "rejected"; each shows images."""
    rows = []
    pool = iter(make_images(sum(images)))
    for question, answer, count in zip(QUESTIONS, ANSWERS, images, strict=True):
        user, reply = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
        other = {"role": "assistant", "content": "no " + answer[::-1]}
        columns = {
            "messages": {"messages": [user, reply]},
            "completion": {"prompt": [user], "completion": [reply]},
            "preference": {"prompt": [user], "chosen": [reply], "rejected": [other]},
            "prompt": {"prompt": [user]},
        }[kind]
        rows.append({"images": [next(pool) for _ in range(count)], **columns})
    return Dataset.from_list(rows)


def record(trainer):
    """Train, and return the batches as the collator made them, the losses of the steps and the norms of gradients."""
    batches, losses = [], []
    collate, step = trainer.data_collator, trainer.training_step

    def keep_batch(rows):
        batch = collate(rows)
        batches.append(dict(batch))
        return batch

    def keep_loss(*args, **kwargs):
        losses.append(step(*args, **kwargs))
        return losses[-1]

    trainer.data_collator, trainer.training_step = keep_batch, keep_loss
    trainer.train()
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    return batches, losses, norms


def mask_dropped(model, batch, keep):
    """(b, L) true for text and kept tokens; the inputs of the stock model that hide the others. No handle is on."""
    model = unwrap(model)
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "completion_mask")}
    report = foveate.prune_inputs(model, inputs, keep=keep).report
    assert report.items
    masked = to_tiny_family(family_of(model)).mask_dropped(model, inputs, report.items)
    return masked["attention_mask"].bool(), masked


def score_labels(model, batch, keep):
    """(b, L) log-probability of each label, by the token that stays before it; (b, L) true where there is a label."""
    stays, inputs = mask_dropped(model, batch, keep)
    logits = model(**inputs).logits.log_softmax(-1)
    placeholders = family_of(unwrap(model)).placeholders(unwrap(model).config, batch)
    scores, is_label = torch.zeros(stays.shape), torch.zeros_like(stays)
    for row in range(len(stays)):
        columns = stays[row].nonzero().squeeze(1).tolist()
        for before, at in pairwise(columns):
            if batch["labels"][row, at] != -100 and not placeholders[row, at]:
                is_label[row, at] = True
                scores[row, at] = logits[row, before, batch["labels"][row, at]]
    return scores, is_label


def take_loss(trainer, batches, keep, shape):
    """The loss of each batch of one step: by all labels of the step, or as the mean of the batches' own means, which is
    what trainers do with models that take no `num_items_in_batch`.
    """
    parts = [score_labels(trainer.model, batch, keep) for batch in batches]
    counts = [int(is_label.sum()) for _, is_label in parts]
    if trainer.model_accepts_loss_kwargs:
        return [shape(scores).sum() / sum(counts) for scores, _ in parts]
    return [shape(scores).sum() / count / len(parts) for (scores, _), count in zip(parts, counts, strict=True)]


def take_norm(model, loss):
    """The norm of all gradients of a loss."""
    model.zero_grad()
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.stack([grad.norm() for grad in grads]).norm()
