"""Visual tokens with everything a method may need, made from their rows: permuted rows take their extras along."""

import dataclasses

import torch

from foveate.method.tokens import VisualTokens, unit_rows

WIDTH = 32


def make_tokens(embeds, question, grid=None):
    """Tokens, features, keys and attentions of one image; duplicate rows are duplicates in all of them."""
    generator = torch.Generator().manual_seed(embeds.shape[1])
    # Not a matrix product, whose rounding depends on a row's place; and whatever the scale of the rows.
    into = torch.randn(2 * WIDTH + 1, embeds.shape[1], generator=generator)
    made = torch.stack([(unit_rows(embeds) * direction).sum(1) for direction in into], dim=1)
    parts = unit_rows(embeds) * unit_rows(question.float().sum(0))
    named = parts.sum(1)
    heads = torch.stack([parts[:, head::2].sum(1) for head in (0, 1)], dim=1)
    return VisualTokens(
        embeds,
        question,
        grid,
        encoder=made[:, :WIDTH].to(embeds.dtype),
        keys=made[:, WIDTH : 2 * WIDTH].to(embeds.dtype),
        cls_attention=made[:, -1].softmax(0).to(embeds.dtype),
        attention=named.softmax(0).to(embeds.dtype),
        cross_attention=heads.softmax(0).to(embeds.dtype),
    )


def map_tensors(tokens, change):
    """The same tokens, every tensor changed."""
    fields = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens) if field.init}
    return VisualTokens(**{name: change(v) if isinstance(v, torch.Tensor) else v for name, v in fields.items()})
