"""Low-rank adapters beside the layers of a bundled model, and their training."""

from __future__ import annotations

import warnings
from typing import Any

from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

from foveate.models.sequence import IGNORED_LABEL
from training.language import LanguageTraining
from training.moments import CLASSES
from training.vision import mean_or_zero

LAYERS = (
    r"model\.(language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    r"|visual\.(merger\.mlp\.[02]|blocks\.[34]\.(attn\.(qkv|proj)|mlp\.(gate|up|down)_proj)))"
)
DEPTH = 2  # layers of the language model below the heads


def add_low_rank(model: Any, rank: int) -> Any:
    """Freeze the model and put low-rank products beside its linear layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about PEFT's own code
        return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LAYERS))


class AdapterTraining(nn.Module):
    """The model with its adapters, which Muon learns, and a head for every label of `moments.CLASSES`."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
        self.language = LanguageTraining(model, tokenizer, likeness=0.0, sharpness=0.0)
        self.language.symbols.requires_grad_(False)
        self.model = model
        assert learns
        assert all("lora_" in name for name in learns)
        width = model.config.text_config.hidden_size
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in CLASSES.items()})
        self.hidden: Tensor | None = None
        model.model.language_model.layers[DEPTH - 1].register_forward_hook(self._catch)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and the figures to log: those of the answers, and the share of labels that are right."""
        loss, figures = self.language(batch)
        hidden = self.hidden
        assert hidden is not None
        tokens = hidden[self.language.mark_visual(batch["input_ids"])]
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
        for name, head in self.heads.items():
            target, logits = batch[name], head(tokens)
            each = F.cross_entropy(logits, target, reduction="none", ignore_index=IGNORED_LABEL)
            labelled, empty = target > 0, target == 0
            loss = loss + (mean_or_zero(each[labelled]) + mean_or_zero(each[empty])) / (2 * len(self.heads))
            right = (logits.argmax(-1) == target)[labelled].float()
            figures[f"{name} label"] = mean_or_zero(right).item()
        return loss, figures

    def _catch(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.hidden = output
