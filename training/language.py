"""Stages *read*, *align* and *talk*: connector and language model learn to caption and to answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedTokenizerFast

from foveate.models.sequence import IGNORED_LABEL
from foveate.world.scenes import FORMS, GLYPHS, POPULARITY
from training.attention import packed_attention
from training.data import MARKED
from training.labels import CLASSES, PLACE
from training.precision import autocast
from training.vision import get_connector, get_tower, mean_or_zero

ALIGNED = {"form": FORMS, "color": tuple(POPULARITY), "glyph": tuple(GLYPHS)}


class SymbolEmbedding(nn.Module):
    """Embeds the labels of patches, in place of the features of a perfect vision encoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(size, width) for name, size in CLASSES.items()})
        self.place = nn.Linear(PLACE, width)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """(patches, width)."""
        features: Tensor = self.place(batch["place"])
        for name, table in self.tables.items():
            features = features + table(batch[name])
        return features


class LanguageTraining(nn.Module):
    """The whole model with its vision encoder frozen; `unfreeze` chooses which other parts learn."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast, likeness: float, sharpness: float) -> None:
        super().__init__()
        AttentionInterface.register("packed", torch.compiler.disable(packed_attention))
        model.model.language_model.config._attn_implementation = "packed"
        self.model, self.likeness, self.sharpness = model, likeness, sharpness
        self.symbols = SymbolEmbedding(get_tower(model).config.hidden_size)
        self.words = {
            name: torch.tensor([tokenizer(f" {v}").input_ids[0] for v in values]) for name, values in ALIGNED.items()
        }

    def unfreeze(self, *, connector: bool, language: bool) -> None:
        """Freeze all but the connector, the language model (with the symbol embedding), or both."""
        self.model.requires_grad_(False)
        get_connector(self.model).requires_grad_(connector)
        for part in (self.model.model.language_model, self.model.lm_head, self.symbols):
            part.requires_grad_(language)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and the figures to log: both parts of the loss, and the share of right answers by task."""
        target, task = batch["labels"][:, 1:], batch["task"][:, 1:]
        labelled, answers = target != IGNORED_LABEL, task >= 0
        with autocast(batch["input_ids"].device.type):
            patches = self._visual_tokens(batch)
            logits = self.model.lm_head(self._hidden(patches, batch)[:, :-1][labelled]).float()
        each = F.cross_entropy(logits, target[labelled], reduction="none")
        answer, caption = mean_or_zero(each[answers[labelled]]), mean_or_zero(each[~answers[labelled]])
        figures = {"answer": answer.item(), "caption": caption.item()}
        right = logits.argmax(-1) == target[labelled]
        figures |= _score_tasks(right, task[labelled], batch["answer"][:, 1:][labelled])
        loss = answer + caption
        if self.likeness and "pixel_values" in batch:
            likeness, figures["patch"] = self._likeness(patches.float(), batch)
            loss = loss + self.likeness * likeness
        return loss, figures

    def _visual_tokens(self, batch: dict[str, Tensor]) -> Tensor:
        """(all visual tokens, width), from the images or, where the batch has none, from symbols."""
        if "pixel_values" not in batch:
            tokens: Tensor = get_connector(self.model)(self.symbols(batch))
            return tokens
        images = {k: batch[k] for k in ("pixel_values", "image_grid_thw") if k in batch}
        return torch.cat(list(self.model.model.get_image_features(**images).pooler_output))

    def mark_visual(self, ids: Tensor) -> Tensor:
        """(b, L) bool: the placeholders of images and videos."""
        visual = {self.model.config.image_token_id, getattr(self.model.config, "video_token_id", None)} - {None}
        return torch.isin(ids, torch.tensor(sorted(visual), device=ids.device))

    def _hidden(self, patches: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """(b, L, width): what the language model gives to its head."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        embeds = self.model.get_input_embeddings()(ids)
        placeholders = self.mark_visual(ids)[..., None]
        device = ids.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else embeds.dtype
        bias = torch.zeros(mask.shape, dtype=precision, device=mask.device).masked_fill(~mask, -1e9)
        hidden: Tensor = self.model.model(
            inputs_embeds=embeds.masked_scatter(placeholders, patches.to(embeds.dtype)),
            position_ids=batch["position_ids"],
            attention_mask=bias,
            use_cache=False,
            shared=int(batch["shared"]),
        ).last_hidden_state
        return hidden

    def _likeness(self, patches: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, float]:
        """Return the cosine cross-entropy between patches and the words of their labels, and the share right."""
        table: Any = self.model.get_input_embeddings().weight
        losses, right = [], []
        for name, ids in self.words.items():
            labelled = batch[name] > 0
            if not bool(labelled.any()):
                continue
            target = batch[name][labelled] - 1
            cosine = F.normalize(patches[labelled], dim=-1) @ F.normalize(table[ids], dim=-1).T
            losses.append(F.cross_entropy(self.sharpness * cosine, target))
            right.append((cosine.argmax(-1) == target).float().mean().item())
        return torch.stack(losses).sum(), sum(right) / len(right)


def _score_tasks(right: Tensor, task: Tensor, answer: Tensor) -> dict[str, float]:
    """Return the share of answers of each task that are right to the last token."""
    whole = torch.ones(int(answer.max()) + 1).scatter_reduce(0, answer.cpu(), right.float().cpu(), "amin")
    of = torch.full_like(whole, -1).scatter(0, answer.cpu(), task.float().cpu())
    return {name: whole[of == number].mean().item() for number, name in enumerate(MARKED) if bool((of == number).any())}


@torch.no_grad()
def equalize_queries_and_keys(model: Any) -> None:
    """Give every head equal query and key weights, so that a token first attends to the tokens that resemble it."""
    for layer in model.model.language_model.layers:
        layer.self_attn.q_proj.weight.mul_(2)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
