"""Callbacks of `generate` under pruning: they get the caller's prompt, whatever the model reads."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Classes of transformers that count the tokens before the answer, and the attribute that holds the number. The others
# read scores, or the last tokens alone.
COUNTING = {
    "ExponentialDecayLengthPenalty": "regulation_start", "ForcedEOSTokenLogitsProcessor": "max_length",
    "MaxLengthCriteria": "max_length", "MinLengthLogitsProcessor": "min_length",
    "MinNewTokensLengthLogitsProcessor": "prompt_length_to_skip",
    "RepetitionPenaltyLogitsProcessor": "prompt_ignore_length",
    "SuppressTokensAtBeginLogitsProcessor": "begin_index",
}  # fmt: skip

PREFIX = "_prefix_allowed_tokens_fn"  # of PrefixConstrainedLogitsProcessor


class PromptRestorer:
    """Puts the caller's prompt in the place of the shorter one.

    Args:
        prompt: (b, L) the caller's `input_ids`.
        length: Length of the prompt that `generate` sees.
    """

    def __init__(self, prompt: Tensor, length: int) -> None:
        self.prompt, self.length = prompt, length

    def restore(self, ids: Tensor) -> Tensor:
        """(n, L' + t) -> (n, L + t); the n rows are those of the prompt, each repeated as often."""
        rows = self.prompt.to(ids.device).repeat_interleave(len(ids) // len(self.prompt), dim=0)
        return torch.cat([rows, ids[:, self.length :]], dim=1)

    def restore_row(self, row: int, ids: Tensor) -> Tensor:
        """(L' + t,) -> (L + t,) for one row of the prompt."""
        return torch.cat([self.prompt[row].to(ids.device), ids[self.length :]])

    def count_dropped(self) -> int:
        """How many tokens shorter the prompt is."""
        return self.prompt.shape[1] - self.length

    def restore_output(self, out: Any) -> Any:
        """What `generate` returned, with the caller's prompt."""
        if isinstance(out, Tensor):
            return self.restore(out)
        out.sequences = self.restore(out.sequences)
        return out

    def wrap_callbacks(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of `generate` with callbacks that see the caller's prompt."""
        wrapped: dict[str, Any] = {}
        for name in ("stopping_criteria", "logits_processor"):
            if settings.get(name):
                callbacks = settings[name]
                wrapped[name] = type(callbacks)(self._wrap(callback) for callback in callbacks)
        prefix, streamer = settings.get("prefix_allowed_tokens_fn"), settings.get("streamer")
        if prefix is not None:
            wrapped["prefix_allowed_tokens_fn"] = self._wrap_prefix(prefix)
        if streamer is not None:
            wrapped["streamer"] = _Streamer(streamer, self.prompt)
        return {**settings, **wrapped}

    def _wrap(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Those of transformers keep their class: `generate` leaves out its own one of the same class."""
        kind = type(callback)
        if not kind.__module__.startswith("transformers."):
            return lambda ids, scores, **kwargs: callback(self.restore(ids), scores, **kwargs)
        changed = copy.copy(callback)
        number = getattr(callback, COUNTING.get(kind.__name__, ""), None)
        if number is not None:
            setattr(changed, COUNTING[kind.__name__], max(number - self.count_dropped(), 0))
        prefix = getattr(callback, PREFIX, None)
        if prefix is not None:
            setattr(changed, PREFIX, self._wrap_prefix(prefix))
        return changed

    def _wrap_prefix(self, prefix: Callable[[int, Tensor], Any]) -> Callable[[int, Tensor], Any]:
        return lambda row, ids: prefix(row, self.restore_row(row, ids))


class _Streamer:
    """A streamer that gets the caller's prompt first."""

    def __init__(self, streamer: Any, prompt: Tensor) -> None:
        self.streamer, self.prompt = streamer, prompt
        self.is_first = True

    def put(self, value: Tensor) -> None:
        """The prompt, then the tokens of the answer."""
        self.streamer.put(self.prompt.cpu() if self.is_first else value)
        self.is_first = False

    def end(self) -> None:
        """The answer is complete."""
        self.streamer.end()
