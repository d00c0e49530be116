"""Self-distillation, evaluation at fixed budgets, and the example."""

import re
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-tuning")

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

import foveate
import foveate.tuning
from foveate.errors import InputError, KeepError
from masked import COMMON, KEEP, make_rows, mask_dropped, record
from tuning_trainers import collate_all, sft

pytestmark = pytest.mark.filterwarnings("ignore", "error::foveate.errors.FoveateWarning")
LORA = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)


def diverge(student, teacher, stays, labels, temperature):
    """The mean divergence by hand, over the labels of tokens that stay."""
    parts = []
    for row in range(len(stays)):
        columns = stays[row].nonzero().squeeze(1).tolist()
        for before, at in pairwise(columns):
            if labels[row, at] != -100:
                p = (teacher[row, at - 1] / temperature).softmax(-1)
                q = (student[row, before] / temperature).softmax(-1)
                parts.append((p * (p / q).log()).sum())
    return torch.stack(parts).mean() * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("has_labels", [True, False])
def test_self_distillation(model, processor, temperature, has_labels):
    batch = collate_all(processor, make_rows("messages"))
    labels = batch["labels"].masked_fill(batch["labels"] == model.config.image_token_id, -100)
    if has_labels:
        labels[:, :-4] = -100
        batch["labels"] = labels
    else:
        del batch["labels"]
    torch.manual_seed(0)
    tuned = get_peft_model(model, LORA).train()
    with foveate.pruning(tuned, keep=KEEP) as handle:
        loss = foveate.tuning.self_distillation_loss(tuned, batch, temperature=temperature)
        assert all(len(item.kept) == KEEP for item in handle.report.items)
    loss.backward()
    grads = [p.grad for n, p in tuned.named_parameters() if "lora_B" in n and "language" in n]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)
    stays, masked = mask_dropped(tuned, batch, KEEP)
    with torch.no_grad():
        student = tuned(**masked).logits
        with tuned.disable_adapter():
            teacher = tuned(**{k: v for k, v in batch.items() if k != "labels"}).logits
    torch.testing.assert_close(
        loss.detach(), diverge(student, teacher, stays, labels, temperature), rtol=1e-4, atol=1e-6
    )


def test_self_distillation_in_a_trainer(model, processor, tmp_path):
    class Distillation(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return foveate.tuning.self_distillation_loss(model, inputs)

    foveate.attach(model, keep=[2, 4])
    options = {**COMMON, "learning_rate": 1e-2, "max_steps": 6, "per_device_train_batch_size": 4}
    args = TrainingArguments(output_dir=str(tmp_path), remove_unused_columns=False, **options)
    rows = list(make_rows("messages"))
    tuned = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))
    _, losses, _ = record(
        Distillation(tuned, args, data_collator=lambda rows: collate_all(processor, rows), train_dataset=rows)
    )
    assert losses[-1] < losses[0]


def test_what_self_distillation_refuses(model, processor):
    batch = collate_all(processor, make_rows("messages"))
    with pytest.raises(InputError, match=r"Nothing is pruned: call foveate\.attach"):
        foveate.tuning.self_distillation_loss(model, batch)
    with foveate.pruning(model, keep=2):
        with pytest.raises(InputError, match="labels leave no token of an answer"):
            foveate.tuning.self_distillation_loss(model, {**batch, "labels": torch.full_like(batch["labels"], -100)})
        with pytest.raises(InputError, match="temperature"):
            foveate.tuning.self_distillation_loss(model, batch, temperature=0)


def test_evaluation_at_fixed_budgets(model, processor, tmp_path):
    """The losses are those of a run with the budget alone, in which nothing is drawn."""
    foveate.attach(model, keep=[2, 4, 8])
    options = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 2}
    trainer = sft(model, processor, tmp_path, make_rows("messages"), **options)
    trainer.add_callback(foveate.tuning.BudgetEvaluation(trainer, [3, 1.0]))
    trainer.train()
    rows = {key: row[key] for row in trainer.state.log_history for key in row if key.endswith("_loss")}
    assert {"eval_loss", "eval_keep_3_loss", "eval_keep_1.0_loss"} <= set(rows)
    with foveate.pruning(model, keep=3):
        alone = trainer.evaluate(metric_key_prefix="alone")["alone_loss"]
    assert rows["eval_keep_3_loss"] == pytest.approx(alone, rel=1e-6)
    assert rows["eval_keep_1.0_loss"] != rows["eval_keep_3_loss"]


def test_what_is_no_budget(model, processor, tmp_path):
    with pytest.raises(KeepError, match="keeps no token"):
        foveate.tuning.BudgetEvaluation(None, [0])


def test_the_example(tmp_path, monkeypatch, capsys):
    example = Path(__file__).parents[2] / "examples" / "tune.py"
    monkeypatch.setattr(
        sys,
        "argv",
        [str(example), "--steps", "2", "--model", "bundled-qwen", "--keep", "5", "--out", str(tmp_path / "tuned")],
    )
    runpy.run_path(str(example), run_name="__main__")
    assert "eval_keep_5_loss" in capsys.readouterr().out
    assert foveate.load("bundled-qwen", adapter=str(tmp_path / "tuned")).model is not None


PAGE = Path(__file__).parents[2] / "docs" / "tuning.md"


def test_the_page(tmp_path, monkeypatch):
    """Its snippets run in their order, each with what the ones before it defined."""
    monkeypatch.chdir(tmp_path)
    names = {"rows": make_rows("completion"), "held_out": make_rows("completion"), "__name__": "__main__"}
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(snippet, names)
    names["trainer"].evaluate()
    logged = {key for row in names["trainer"].state.log_history for key in row}
    assert {"eval_loss", "eval_keep_16_loss", "eval_keep_1.0_loss"} <= logged
