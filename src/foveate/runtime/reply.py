"""An answer that is being generated: its pieces as they come, or all of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextStreamer

from foveate.pipeline.report import Report


class Reply:
    """The answer to one question. `for piece in reply` streams it; `str(reply)` waits for all of it.

    Both may be done any number of times, by any thread. Both raise what generation raised.

    Attributes:
        report: What was kept of every image.
        known: How many of the images were not encoded for this question.
        times: The times, in seconds, of the frames of a stream that the model saw.
        cached: How many tokens of the prompt were not computed for it: their keys and values were in the cache.
    """

    def __init__(self, report: Report, known: int, *, cached: int = 0, times: tuple[float, ...] = ()) -> None:
        self.report, self.known, self.cached, self.times = report, known, cached, times
        self._pieces: list[str] = []
        self._error: Exception | None = None
        self._done = self._cancelled = False
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[str]:
        """The pieces of the answer, as they come."""
        count = 0
        while (piece := self._wait_for(count)) is not None:
            yield piece
            count += 1
        if self._error is not None:
            raise self._error

    def __str__(self) -> str:
        """The whole answer."""
        return "".join(self).strip()

    def cancel(self) -> None:
        """Stop at the next token: the answer ends with what there is."""
        self._cancelled = True

    def start(
        self, model: Any, tokenizer: Any, inputs: Mapping[str, Any], options: dict[str, Any],
        finish: Callable[[Any], None] = lambda _: None,
    ) -> threading.Thread:  # fmt: skip
        """Generate in a thread, and return it. At its end `finish` gets what `generate` returned; None on errors."""
        criteria = StoppingCriteriaList([*options.pop("stopping_criteria", ()), StopWhen(lambda: self._cancelled)])
        options |= {"streamer": _PieceStreamer(tokenizer, self._add), "stopping_criteria": criteria}

        def run() -> None:
            try:
                with torch.no_grad():
                    finish(model.generate(**inputs, **options))
            except Exception as error:
                finish(None)
                self._error = error
            finally:
                with self._changed:
                    self._done = True
                    self._changed.notify_all()

        thread = threading.Thread(target=run, name="foveate-reply", daemon=True)
        thread.start()
        return thread

    def _add(self, piece: str) -> None:
        with self._changed:
            self._pieces.append(piece)
            self._changed.notify_all()

    def _wait_for(self, index: int) -> str | None:
        """The piece of this number; None behind the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._done or len(self._pieces) > index)
            return self._pieces[index] if len(self._pieces) > index else None


class _PieceStreamer(TextStreamer):
    """Passes on text that further tokens do not change."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        """Receive a piece."""
        if text:
            self._on_text(text)


class StopWhen(StoppingCriteria):
    """Stops after a token for which `condition` holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self.condition = condition

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        """(b,): the same for every row."""
        return torch.full((input_ids.shape[0],), self.condition(), dtype=torch.bool, device=input_ids.device)
