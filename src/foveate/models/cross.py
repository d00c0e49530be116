"""Models that attend across to their images: the encoder's states lie beside the sequence, not in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from foveate.models.base import Extras, Family, Inputs
from foveate.models.batch import PromptBatch
from foveate.models.cross_rows import read_cross_attention
from foveate.models.kept import keep_tokens
from foveate.models.visual_input import VisualInput, make_visual_input


@dataclass(frozen=True, eq=False)
class States:
    """What a batch's words attend across to: `states` (b, n, d), and of which of the row's images each is one.

    `owner` (b, n) counts the images of a row from 0; -1 is padding.
    """

    states: Tensor
    owner: Tensor

    def places(self) -> list[tuple[int, Tensor]]:
        """The row of every image, and the columns of its states there."""
        counts = (self.owner.amax(1) + 1).tolist()
        return [
            (row, (self.owner[row] == n).nonzero().squeeze(1)) for row, count in enumerate(counts) for n in range(count)
        ]


class CrossAttention(Family):
    """The prompt stays as it is; each row keeps fewer states, and rows that keep fewer than others are padded."""

    traits = replace(Family.traits, in_sequence=False, shared_space=False)

    def seen(self, inputs: Inputs, encoded: States) -> Tensor:
        """(b, L, n): which word sees which state."""
        raise NotImplementedError(f"{type(self).__name__} does not say which words see which states.")

    def first_cross_attention(self, model: Any) -> Any:
        """The attention module of the first layer that attends across."""
        raise NotImplementedError(f"{type(self).__name__} does not say which layer attends across first.")

    def extras(self, config: Any) -> frozenset[str]:
        """What words attend to in the first layer that attends across; `read_words` gives it."""
        return frozenset({"cross_attention"})

    def read_words(self, model: Any, inputs: Inputs, encoded: States, whole: Inputs, prompt: Tensor) -> list[Tensor]:
        """How the prompt attends to each image.

        Args:
            model: The model.
            inputs: The processor's output.
            encoded: What `encode` returned.
            whole: What `shorten` returned, with every token kept.
            prompt: (b, L) bool, the words whose attention counts.

        Returns:
            (n, heads) float32 for every image: weights in the first layer that attends across, averaged over the words
            that see the image; each word's weights on all that it sees sum to 1. Zeros if no word sees it.
        """
        seen = self.seen(inputs, encoded) & prompt[..., None].to(encoded.owner.device)
        sums = read_cross_attention(model, whole, self.first_cross_attention(model), seen.any(2))
        means = []
        for row, columns in encoded.places():
            count = seen[row, :, columns].any(1).sum().clamp(min=1).to(sums.device)
            means.append(sums[row][:, columns.to(sums.device)].T / count)
        return means

    def across(self, model: Any, states: Tensor, seen: Tensor, real: Tensor) -> dict[str, Any]:
        """The model's inputs for these states (b, n, d); none but `real` (b, n) ones count at all."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its model takes encoded images.")

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """The states of every image, without padding."""
        return [encoded.states[row, columns] for row, columns in encoded.places()]

    def items(self, model: Any, inputs: Inputs, outputs: Inputs, extras: Sequence[Extras]) -> list[VisualInput]:
        """An image stands where the first word sees it."""
        encoded = outputs["image"]
        seen, features = self.seen(inputs, encoded), self.features(encoded)
        grids, protected = self.grids(model.config, inputs, features), self.protected(model, inputs, features)
        items = []
        for n, (row, columns) in enumerate(encoded.places()):
            first = int(seen[row, :, columns].any(1).long().argmax())
            item = make_visual_input("image", row, columns.new_zeros(0), first, features[n])
            item = replace(item, index=n, grid=grids[n], protected=protected[n], extras=extras[n] if extras else {})
            items.append(replace(item, tiles=self.find_tiles(model.config, inputs, item)))
        return items

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """The same prompt, and the states that stay. Where all of them do, their padding does too."""
        encoded, items = batch.outputs["image"], batch.items
        gone = {"mm_encoder_outputs", *self.encoder_inputs(model, batch.inputs)}
        rest = {name: value for name, value in batch.inputs.items() if name not in gone}
        rest["attention_mask"] = batch.mask
        seen = self.seen(batch.inputs, encoded)
        if all(item.merge_weights is None and len(item.kept) == item.total for item in items):
            return {**rest, **self.across(model, encoded.states, seen, torch.ones_like(encoded.owner).bool())}
        columns = [encoded.owner.new_zeros(0) for _ in encoded.owner]
        for (row, own), item in zip(encoded.places(), items, strict=True):
            columns[row] = torch.cat([columns[row], own[item.kept.to(own.device)]])
        values = [encoded.states.new_zeros(0, encoded.states.shape[-1]) for _ in encoded.owner]
        joined = keep_tokens(self.features(encoded), items)
        for row, states in zip(dict.fromkeys(item.row for item in items), joined, strict=True):
            values[row] = states
        index = pad_sequence(columns, batch_first=True, padding_value=-1)
        real = index >= 0
        among = index.clamp(min=0)[:, None].expand(-1, seen.shape[1], -1)
        padded = pad_sequence(values, batch_first=True)
        return {**rest, **self.across(model, padded, seen.gather(2, among) & real[:, None], real)}
