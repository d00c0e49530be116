"""`learn_template`: how a model's own chat template frames the user's words, read off from a few short conversations.

Without it, the question is found by what the configuration tells of special tokens, which fits ChatML and kin; many
templates mark turns by ordinary words, or by special tokens that no configuration names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from foveate.errors import ModelError

# Words that no template writes itself, and that start and end with a letter.
FIRST, ANSWER, SECOND, SYSTEM = "quail whale", "otter heron", "raven tapir", "lemur bison"


def learn_template(model: Any, processor: Any) -> None:
    """Let `prune_inputs` find the question of any prompt that this processor's chat template wrote.

    `processor` is the model's own, or its tokenizer. What was learned is kept in `model.config.foveate_template`.

    Raises `ModelError` if there is no chat template that separates user and assistant.
    """
    model.config.foveate_template = read_template(processor)


def read_template(processor: Any) -> dict[str, Any]:
    """`config.foveate_template` for a processor: the roles' spellings, filler and special tokens, all as ids."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError("The chat template cannot be read with a slow tokenizer: load the fast one.")
    talk = _Prober(processor, tokenizer)
    bare = talk([("user", FIRST)])
    long = talk([("user", FIRST), ("assistant", ANSWER), ("user", SECOND)])
    led = talk([("system", SYSTEM), ("user", FIRST)])
    if bare is None or long is None:
        raise ModelError("This processor has no chat template for a question: set config.foveate_template by hand.")
    user = [bare.before(FIRST), long.between(ANSWER, SECOND), *([led.between(SYSTEM, FIRST)] if led else [])]
    assistant = [long.between(FIRST, ANSWER), long.after(SECOND), bare.after(FIRST)]
    roles = [_spellings(frames) for frames in (user, assistant)]
    if not all(roles):
        raise ModelError(
            "This chat template does not tell user and assistant apart: set config.foveate_template by hand."
        )
    specials = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    frames = [*user, *assistant]
    shown = talk([("user", FIRST)], picture=True)
    if shown is not None:
        frames += [shown.before(FIRST), shown.after(FIRST)]
    blanks = {i for frame in frames for i in frame.blanks()}
    return {"roles": roles, "filler": sorted(blanks - specials), "specials": sorted(specials)}


@dataclass(frozen=True)
class _Frame:
    """Template text between words, its token ids, and where each token begins and ends in the text."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]

    def blanks(self) -> list[int]:
        """The ids of the tokens that hold nothing but blanks and line ends, which are no words."""
        return [i for i, (low, high) in zip(self.ids, self.offsets, strict=True) if self.text[low:high].isspace()]


@dataclass(frozen=True)
class _Conversation:
    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]

    def before(self, words: str) -> _Frame:
        return self._frame(0, self.text.index(words))

    def after(self, words: str) -> _Frame:
        return self._frame(self.text.rindex(words) + len(words), len(self.text))

    def between(self, one: str, other: str) -> _Frame:
        return self._frame(self.text.index(one) + len(one), self.text.rindex(other))

    def _frame(self, start: int, end: int) -> _Frame:
        # A token that reaches into the words (a blank before them) belongs to the words.
        inside = [n for n, (low, high) in enumerate(self.offsets) if start <= low < high <= end]
        offsets = [(self.offsets[n][0] - start, self.offsets[n][1] - start) for n in inside]
        return _Frame(self.text[start:end], [self.ids[n] for n in inside], offsets)


class _Prober:
    def __init__(self, processor: Any, tokenizer: Any) -> None:
        self.processor, self.tokenizer = processor, tokenizer

    def __call__(self, turns: Sequence[tuple[str, str]], *, picture: bool = False) -> _Conversation | None:
        """The conversation as the template writes it; None where it cannot, or changes the words."""
        for parts in (True, False):
            messages = []
            for role, words in turns:
                content: Any = [{"type": "text", "text": words}] if parts else words
                if picture and parts and role == "user":
                    content = [{"type": "image"}, *content]
                messages.append({"role": role, "content": content})
            try:
                text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            except Exception:  # a template may refuse in any way it likes
                continue
            if isinstance(text, str) and all(text.count(words) == 1 for _, words in turns):
                encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
                return _Conversation(text, list(encoded["input_ids"]), [tuple(o) for o in encoded["offset_mapping"]])
        return None


def _spellings(frames: Sequence[_Frame]) -> list[list[int]]:
    """The end that all frames share as text, without blanks behind it, as the tokens of each."""
    texts = [frame.text.rstrip() for frame in frames]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*(text[::-1] for text in texts), strict=False))
    shared = len(list(same))
    found: list[list[int]] = []
    for frame, text in zip(frames, texts, strict=True):
        begin = len(text) - shared
        ids = [i for i, (low, high) in zip(frame.ids, frame.offsets, strict=True) if high > begin and low < len(text)]
        if shared and ids and ids not in found:
            found.append(ids)
    return found
