"""Trainers of preferences and rewards under `attach`: the stock model's log-probabilities, dropped tokens masked."""

import copy

import pytest

pytest.importorskip("trl", reason="TRL is not installed: make test-tuning")

import torch
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

import foveate
from foveate.errors import InputError
from masked import COMMON, KEEP, make_rows, mask_dropped, record, score_labels

pytestmark = pytest.mark.filterwarnings("ignore", "error::foveate.errors.FoveateWarning")
LORA = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)


def dpo(model, processor, tmp_path, peft_config=LORA, ref_model=None, **options):
    args = DPOConfig(output_dir=str(tmp_path), **{**COMMON, "max_length": None, "max_steps": 1, **options})
    rows = make_rows("preference")
    return DPOTrainer(model, ref_model, args, processing_class=processor, train_dataset=rows, peft_config=peft_config)


def hide_dropped(model):
    """The stock model, which hides the tokens that pruning would drop, and keeps the caller's columns."""

    def hide(module, args, kwargs):
        return args, {
            **kwargs,
            **mask_dropped(module, {k: kwargs[k] for k in kwargs if k not in ("fused_lm_head", "use_cache")}, KEEP)[1],
        }

    model.register_forward_pre_hook(hide, with_kwargs=True)


LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
OPTIONS = {
    **{name: {"loss_type": name, "label_smoothing": 0.1 if name in ("robust", "exo_pair") else 0.0} for name in LOSSES},
    "several": {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.8, 0.2]},
    "ld_alpha": {"ld_alpha": 0.5}, "weighting": {"use_weighting": True},
    "forward_kl": {"f_divergence_type": "forward_kl"},
    "no checkpoints": {"gradient_checkpointing": False},
    "accumulation": {"gradient_accumulation_steps": 2},
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_dpo(model, processor, tmp_path, case):
    runs = []
    for is_pruned in (True, False):
        torch.manual_seed(0)
        own = copy.deepcopy(model)
        foveate.attach(own, keep=KEEP) if is_pruned else hide_dropped(own)
        runs.append(record(dpo(own, processor, tmp_path, **OPTIONS[case]))[1:])
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-5)


def test_dpo_with_a_model_for_reference(model, processor, tmp_path):
    """The reference is a model of its own: it prunes where a handle is attached to it."""
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for weight in reference.get_output_embeddings().parameters():
            weight.add_(0.1)
    runs = []
    for attached in (foveate.attach, lambda own, keep: hide_dropped(own)):
        own, ref = copy.deepcopy(model), copy.deepcopy(reference)
        attached(own, keep=KEEP), attached(ref, keep=KEEP)
        runs.append(record(dpo(own, processor, tmp_path, None, ref))[1:])
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-5)


def test_grpo(model, processor, tmp_path):
    """What `generate` wrote under pruning is scored as the stock model scores it, dropped tokens masked."""
    handle = foveate.attach(model, keep=KEEP)
    options = {"num_generations": 2, "max_completion_length": 4, "beta": 0.1, "num_iterations": 2, "logging_steps": 1}
    args = GRPOConfig(output_dir=str(tmp_path), **{**COMMON, **options})
    trainer = GRPOTrainer(
        model, lambda completions, **_: [float(len(str(text))) for text in completions], args,
        processing_class=processor, train_dataset=make_rows("prompt"), peft_config=LORA,
    )  # fmt: skip
    calls, score = [], trainer._get_per_token_logps_and_entropies

    def keep_call(model, *args, **kwargs):
        out = score(model, *args, **kwargs)
        calls.append((args, kwargs, out, model.training and torch.is_grad_enabled()))
        return out

    trainer._get_per_token_logps_and_entropies = keep_call
    trainer.train()
    handle.remove()
    trained = [call for call in calls if call[3]]
    assert trained
    for (ids, mask, length, *_), fields, (scores, *_), _ in trained:
        names = ("pixel_values", "image_grid_thw", "mm_token_type_ids")
        batch = {name: fields[name] for name in names if fields.get(name) is not None}
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, :-length] = -100
        expected, _ = score_labels(
            trainer.model, {**batch, "input_ids": ids, "attention_mask": mask, "labels": labels}, KEEP
        )
        torch.testing.assert_close(scores, expected[:, -length:], rtol=1e-4, atol=1e-5)


def test_generate_needs_one_budget(model, processor, tmp_path):
    foveate.attach(model, keep=[2, 4])
    args = GRPOConfig(output_dir=str(tmp_path), num_generations=2, max_completion_length=2, **COMMON)
    trainer = GRPOTrainer(
        model, lambda completions, **_: [0.0] * len(completions), args, processing_class=processor,
        train_dataset=make_rows("prompt"), peft_config=LORA,
    )  # fmt: skip
    with pytest.raises(InputError, match="keep is drawn for every batch"):
        trainer.train()
