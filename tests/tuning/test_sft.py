"""What supervised trainers compute under `attach`: the stock model's loss with the dropped tokens masked."""

import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-tuning")

import torch
import transformers
from peft import LoraConfig

import foveate
from foveate.errors import InputError
from masked import COMMON, KEEP, make_rows, record, score_labels, take_loss, take_norm
from tuning_trainers import add_image, collate_all, sft

pytestmark = pytest.mark.filterwarnings("ignore", "error::foveate.errors.FoveateWarning")


CASES = {
    "messages": ("messages", {}),
    "completion": ("completion", {}),
    "whole completion": ("completion", {"completion_only_loss": False}),
    "dft": ("completion", {"loss_type": "dft"}),
    "dft, messages": ("messages", {"loss_type": "dft"}),
    "chunked_nll": ("messages", {"loss_type": "chunked_nll"}),
    "accumulation": ("messages", {"gradient_accumulation_steps": 2, "max_steps": 1}),
    "batches of one, accumulated": (
        "completion", {"gradient_accumulation_steps": 4, "max_steps": 1, "per_device_train_batch_size": 1},
    ),
    "no checkpoints": ("messages", {"gradient_checkpointing": False}),
    "reentrant checkpoints": ("messages", {"gradient_checkpointing_kwargs": {"use_reentrant": True}}),
    "selective checkpoints": ("messages", {"gradient_checkpointing_kwargs": {"selective": True}}),
    "padding to 16": ("messages", {"pad_to_multiple_of": 16}),
}  # fmt: skip


def check(trainer, handle, keep=KEEP, is_dft=False, steps=1):
    batches, losses, norms = record(trainer)
    handle.remove()
    shape = (lambda scores: -scores * scores.exp().detach()) if is_dft else (lambda scores: -scores)
    trainer.model.train()
    for step in range(len(norms)):
        own = range(step * steps, (step + 1) * steps)
        expected = take_loss(trainer, [batches[at] for at in own], keep, shape)
        for at, loss in zip(own, expected, strict=True):
            torch.testing.assert_close(losses[at], loss.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            torch.tensor(norms[step]), take_norm(trainer.model, sum(expected)), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient(model, processor, tmp_path, case):
    kind, options = CASES[case]
    handle = foveate.attach(model, keep=KEEP)
    trainer = sft(model, processor, tmp_path, make_rows(kind), **options)
    check(trainer, handle, is_dft="dft" in case, steps=options.get("gradient_accumulation_steps", 1))


def test_assistant_only_loss(model, processor, tmp_path, marked_template, monkeypatch):
    monkeypatch.setattr(processor, "chat_template", marked_template)
    handle = foveate.attach(model, keep=KEEP)
    trainer = sft(model, processor, tmp_path, make_rows("messages"), assistant_only_loss=True)
    check(trainer, handle)


def test_lora(model, processor, tmp_path):
    handle = foveate.attach(model, keep=KEEP)
    trainer = sft(model, processor, tmp_path, make_rows("messages"), LoraConfig(target_modules=["q_proj", "v_proj"]))
    check(trainer, handle)


@pytest.mark.parametrize("images", [(2, 1, 1, 3), (1, 0, 2, 1)])
def test_several_images_and_none(model, processor, tmp_path, images):
    handle = foveate.attach(model, keep=0.4)
    trainer = sft(model, processor, tmp_path, make_rows("messages", images))
    check(trainer, handle, keep=0.4)


@pytest.mark.parametrize("kind", ["messages", "completion"])
def test_keep_all_is_the_stock_trainer(model, processor, tmp_path, kind):
    runs = []
    for keep in (None, 1.0):
        handle = None if keep is None else foveate.attach(model, keep=keep)
        runs.append(record(sft(model, processor, tmp_path, make_rows(kind)))[1:])
        model.forward = type(model).forward.__get__(model)  # TRL leaves its own there
    handle.remove()
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-6, atol=1e-6)


def test_evaluation(model, processor, tmp_path):
    handle = foveate.attach(model, keep=KEEP)
    trainer = sft(
        model,
        processor,
        tmp_path,
        make_rows("messages"),
        eval_strategy="steps",
        eval_steps=1,
        max_steps=1,
        per_device_eval_batch_size=4,
    )
    batches, _, _ = record(trainer)
    metrics = next(row for row in trainer.state.log_history if "eval_loss" in row)
    handle.remove()
    scores, is_label = score_labels(trainer.model, batches[-1], KEEP)
    assert metrics["eval_loss"] == pytest.approx(-float(scores.sum() / is_label.sum()), rel=1e-5)


def test_what_is_trained_is_what_is_generated_from(model, processor, tmp_path):
    """The question is found although the loss covers it: each image keeps what it keeps for its prompt alone."""
    rows = make_rows("messages")
    handle = foveate.attach(model, keep=KEEP)
    trainer = sft(model, processor, tmp_path, rows, max_steps=1, per_device_train_batch_size=4)
    batches, _, _ = record(trainer)
    trained = {
        tuple(row.tolist()): item.kept.tolist()
        for row, item in zip(batches[0]["input_ids"], handle.report.items, strict=True)
    }
    model.eval()
    for row in rows:
        text = processor.apply_chat_template(add_image(row["messages"][:1]), add_generation_prompt=True, tokenize=False)
        inputs = processor(images=[row["images"]], text=[text], return_tensors="pt")
        model.generate(**inputs, max_new_tokens=1)
        prompt = inputs["input_ids"][0].tolist()
        assert any(
            list(ids[: len(prompt)]) == prompt and kept == handle.report.items[0].kept.tolist()
            for ids, kept in trained.items()
        )


# -- transformers' own trainer ---------------------------------------------------------------------------------------


def plain(model, processor, tmp_path, **options):
    extra = {name: options.pop(name) for name in ("compute_loss_func",) if name in options}
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path), remove_unused_columns=False, **{**COMMON, **options}
    )
    rows = list(make_rows("messages"))
    data = {"train_dataset": rows, "eval_dataset": rows, "data_collator": lambda rows: collate_all(processor, rows)}
    return transformers.Trainer(model, args, **data, **extra)


@pytest.mark.parametrize(
    "options", [{}, {"gradient_accumulation_steps": 2, "max_steps": 1}, {"gradient_checkpointing": True}]
)
def test_the_plain_trainer(model, processor, tmp_path, options):
    handle = foveate.attach(model, keep=KEEP)
    check(plain(model, processor, tmp_path, **options), handle, steps=options.get("gradient_accumulation_steps", 1))


def test_evaluation_of_the_plain_trainer(model, processor, tmp_path):
    handle = foveate.attach(model, keep=KEEP)
    trainer = plain(
        model, processor, tmp_path, eval_strategy="steps", eval_steps=1, max_steps=1, per_device_eval_batch_size=4
    )
    batches, _, _ = record(trainer)
    metrics = next(row for row in trainer.state.log_history if "eval_loss" in row)
    handle.remove()
    scores, is_label = score_labels(trainer.model, batches[-1], KEEP)
    assert metrics["eval_loss"] == pytest.approx(-float(scores.sum() / is_label.sum()), rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"label_smoothing_factor": 0.1}, {"compute_loss_func": lambda outputs, labels, num_items_in_batch: outputs.loss}],
)
def test_losses_of_the_logits_are_refused(model, processor, tmp_path, options):
    with foveate.pruning(model, keep=KEEP), pytest.raises(InputError, match=f"^{next(iter(options))} compares"):
        plain(model, processor, tmp_path, **options).train()
