"""How sure a model is of the first token of its answer."""

from __future__ import annotations

from torch import Tensor
from transformers import LogitsProcessor

LIMIT = 14.0  # log-odds of 1 - 8e-7; float32 tells no higher ones apart


def read_odds(logits: Tensor) -> Tensor:
    """(b,) the log-odds of the likeliest token, within +-14.

    Args:
        logits: (b, vocabulary) of the next token.
    """
    logits = logits.float()
    rest = logits.scatter(1, logits.argmax(1, keepdim=True), -float("inf")).logsumexp(1)
    return (logits.amax(1) - rest).clamp(-LIMIT, LIMIT)


class FirstTokenOdds(LogitsProcessor):
    """Records the log-odds of the likeliest first token, for `generate(logits_processor=[...])`.

    Attributes:
        odds: One for each row of the batch; empty before the first token.
    """

    def __init__(self) -> None:
        self.odds: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """The logits as they are."""
        if not self.odds:
            self.odds = read_odds(scores).tolist()
        return scores
