"""Encoder outputs after pruning. Imported late: importing foveate must not import transformers."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class KeptOutput(ModelOutput):
    """An encoder's output with an entry for each image or row, in place of the encoder's own class.

    That class may require fields that are not here. Hooks of accelerate rebuild this one from its items.

    Args:
        pooler_output: Tokens as the model reads them: a list of tensors (k, d), or one tensor (entries, k, d).
        last_hidden_state: The same for the states that the model projects itself (Llama 4).
        deepstack_features: The same for each level of DeepStack.
        visual_indicator_features: Embeddings of the indicators in the prompt (Ovis2).
        router_logits: What the encoder's own router returned (Granite Docling).
        absent: For every image (n,) bool, the tokens that the rows above leave out; None where they are all there.
        is_tensor: Whether the model reads one tensor. None once it has what it reads.
    """

    pooler_output: Any = None
    last_hidden_state: Any = None
    deepstack_features: Any = None
    visual_indicator_features: Tensor | None = None
    router_logits: Tensor | None = None
    absent: Any = None
    is_tensor: bool | None = None


@dataclass
class KeptState(ModelOutput):
    """The output for models that read the last hidden state: beams repeat the pooled tokens alone."""

    pooler_output: Tensor | None = None

    @property
    def last_hidden_state(self) -> Tensor | None:
        """The pooled tokens."""
        return self.pooler_output
