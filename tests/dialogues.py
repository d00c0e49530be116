"""A conversation of several turns on a tiny model, and the stock model on any sequence of its tokens."""

from __future__ import annotations

import inspect
from dataclasses import replace

import torch
from torch import Tensor

from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.registry import to_tiny_family
from foveate.models import lookup
from foveate.models.capture import capture_arguments
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.join import can_join, join_images
from foveate.runtime.image_cache import PreparedPrompt

WORDS = 5  # of a question


class Dialogue:
    """Ids of one row: `say` and `show` lengthen them; `prompt` makes the inputs of all so far."""

    def __init__(self, name: str, seed: int = 3):
        self.family = lookup.family(name)
        self.model, self.tiny = make_tiny_model(self.family, seed), to_tiny_family(self.family)
        self.rng = torch.Generator().manual_seed(seed)
        self.pair = make_batch(self.model, self.family, [(2, 1)], seed)
        ids, alone = self.pair["input_ids"][0].tolist(), make_batch(self.model, self.family, [(1, 1)], seed)
        end = alone["input_ids"].shape[1] - 2
        self.parts = [ids[1:end], ids[end + 1 : -2]]
        self.ids, self.images, self.compact = ids[:1], 0, False
        with torch.no_grad():
            self.encoded = [self.encode(range(1)), self.encode(range(2))]

    def encode(self, images: range) -> Encoded | None:
        """One by one where that is possible, as a session does: an image has the same features beside another one."""
        if not self.family.traits.in_sequence:
            return None
        if can_join(self.family):
            singles = [self.select(range(n, n + 1)) for n in images]
            return join_images(self.family, [encode(self.model, single) for single in singles])
        prompt = [part for n in images for part in self.parts[n]]
        return encode(self.model, {**self.select(images), "input_ids": torch.tensor([prompt])})

    def select(self, images: range) -> dict:
        """The encoder's inputs of these images."""
        if self.family.traits.in_sequence:
            own = self.tiny.select_inputs(self.model.config, self.pair, "image", 0, images)
        else:
            names = self.family.encoder_inputs(self.model, self.pair)
            own = {name: self.pair[name][:, images.start : images.stop] for name in names}
        return own

    def say(self, ids: list[int] | None = None) -> None:
        """Add these ids, or random ones."""
        if ids is None:
            top = min(self.family.template(self.model.config, []).controls_from or 250, 250)
            ids = torch.randint(10, top, (WORDS,), generator=self.rng).tolist()
        self.ids += ids

    def show(self) -> None:
        """Add the next image."""
        self.ids += self.parts[self.images]
        self.images += 1

    def prompt(self, more: list[int] | None = None) -> PreparedPrompt:
        """The inputs; with `more` ids at the end."""
        ids = torch.tensor([[*self.ids, *(more or [])]])
        inputs = {**self.select(range(self.images)), "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for name in ("mm_token_type_ids", "token_type_ids"):
            if name in inspect.signature(self.model.forward).parameters:
                inputs[name] = self.family.token_types(self.model.config, inputs)
        inputs |= self.tiny.prompt_inputs(self.model.config, inputs)
        return PreparedPrompt(inputs, self.encoded[self.images - 1])

    # -- the stock model --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def run_stock(self, order: list[int], kept: list[Tensor], answer: list[int]) -> Tensor:
        """(n + 1, vocabulary) logits of the last prompt token and of the n ids of an answer, without any cache.

        The tokens of the unpruned prompt in this order, with their own features and positions.
        """
        if not self.family.traits.in_sequence:
            return self._run_across(kept, answer)
        decoder, inputs = self.family.decoder(self.model), self.prompt().inputs
        with capture_arguments(decoder) as calls:
            self.model(**inputs)
        call, at, words = calls[0], torch.tensor(order), torch.tensor([answer], dtype=torch.long)
        new = self.model.get_input_embeddings()(words)
        embeds = torch.cat([call["inputs_embeds"][:, at], new], 1)
        settings = {"inputs_embeds": embeds, "attention_mask": self._mask(inputs, order, embeds)}
        if not self.family.traits.sequential_positions:
            settings["position_ids"] = self._positions(call, at, len(answer))
        places = call.get("visual_pos_masks")
        if places is not None:
            ranks = (places[0].cumsum(0) - 1)[at][places[0][at]]
            none = torch.zeros_like(words, dtype=torch.bool)
            settings["visual_pos_masks"] = torch.cat([places[:, at], none], 1)
            settings["deepstack_visual_embeds"] = [level[ranks] for level in call["deepstack_visual_embeds"]]
        hidden = decoder(**settings).last_hidden_state
        head = self.model.get_output_embeddings() or self.model.language_model.get_output_embeddings()
        return head(hidden)[0, len(order) - 1 :]

    def _positions(self, call: dict, at: Tensor, more: int) -> Tensor:
        whole = call.get("position_ids")
        whole = torch.arange(len(self.ids))[None] if whole is None else whole
        own = torch.arange(len(at)).expand(*whole.shape[:-1], -1) if self.compact else whole[..., at]
        steps = torch.arange(1, more + 1)
        positions = torch.cat([own, own[..., -1:] + steps], -1)
        if positions.ndim == 3 and len(positions) == 4:  # the first row counts
            positions[0] = torch.arange(positions.shape[-1])
        return positions

    def _mask(self, inputs: dict, order: list[int], embeds: Tensor):
        """Ones; where images attend to themselves in both directions, what each layer sees, in numbers to add."""
        length = embeds.shape[1]
        if self.family.traits.reuse != "image":
            return torch.ones(1, length, dtype=torch.long)
        is_visual = self.family.placeholders(self.model.config, inputs)[0]
        blocks, number = torch.full((length,), -1), 0
        for place, column in enumerate(order):
            number += not bool(is_visual[column])
            blocks[place] = number if is_visual[column] else -1
        far = torch.arange(length)[:, None] - torch.arange(length)
        sees = (far >= 0) | ((blocks[:, None] == blocks) & (blocks >= 0))
        near = sees & (far < self.model.config.text_config.sliding_window)
        low = torch.finfo(embeds.dtype).min
        full, sliding = (torch.where(each, 0.0, low)[None, None] for each in (sees, near))
        return {"full_attention": full, "sliding_attention": sliding}

    def _run_across(self, kept: list[Tensor], answer: list[int]) -> Tensor:
        """The stock model with the dropped states masked."""
        inputs = self.prompt(answer).inputs
        outputs = {"image": self.family.encode(self.model, inputs)}
        items = self.family.items(self.model, inputs, outputs, ())
        items = [replace(item, kept=own) for item, own in zip(items, kept, strict=True)]
        logits = self.model(**self.tiny.mask_dropped(self.model, inputs, items)).logits
        return logits[0, len(self.ids) - 1 :]
