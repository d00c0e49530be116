"""`learn_template`: how a chat template marks the user's question, read from a few short conversations.

Without it, the question is found by the special tokens of the configuration. That works for ChatML and similar
templates; many others mark turns with ordinary text, or with special tokens that no configuration names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from foveate.errors import ModelError
from foveate.pipeline.question import LEARNED

# Text that no template contains, and that starts and ends with a letter.
FIRST, ANSWER, SECOND, SYSTEM = "quail whale", "otter heron", "raven tapir", "lemur bison"


def learn_template(model: Any, processor: Any) -> None:
    """Let `prune_inputs` find the question in prompts that this processor's chat template writes.

    What was learned is stored on the model object, as its attribute `foveate_template`; the configuration does not
    change, and `save_pretrained` does not write it. `foveate.load` calls this itself.

    Args:
        model: The model whose prompts will be pruned.
        processor: The model's own processor, or its tokenizer.

    Raises:
        ModelError: There is no chat template that separates user and assistant.
    """
    setattr(model, LEARNED, read_chat_template(processor))


def read_chat_template(processor: Any) -> dict[str, Any]:
    """The template as ids: the openings of "roles" in all their spellings, "filler" tokens, and "specials".

    Raises `ModelError` as `learn_template` does.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError("The chat template cannot be read with a slow tokenizer: load the fast one.")
    render = partial(_render, processor, tokenizer)
    single = render([("user", FIRST)])
    dialog = render([("user", FIRST), ("assistant", ANSWER), ("user", SECOND)])
    system = render([("system", SYSTEM), ("user", FIRST)])
    if single is None or dialog is None:
        raise ModelError("This processor has no chat template for a question: set config.foveate_template by hand.")
    user = [single.before(FIRST), dialog.between(ANSWER, SECOND), *([system.between(SYSTEM, FIRST)] if system else [])]
    assistant = [dialog.between(FIRST, ANSWER), dialog.after(SECOND), single.after(FIRST)]
    roles = [_find_spellings(frames) for frames in (user, assistant)]
    if not all(roles):
        raise ModelError(
            "This chat template does not separate user and assistant: set config.foveate_template by hand."
        )
    specials = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    frames = [*user, *assistant]
    with_image = render([("user", FIRST)], image=True)
    if with_image is not None:
        frames += [with_image.before(FIRST), with_image.after(FIRST)]
    blanks = {i for frame in frames for i in frame.find_blanks()}
    return {"roles": roles, "filler": sorted(blanks - specials), "specials": sorted(specials)}


@dataclass(frozen=True)
class _Text:
    """Text of a template with its token ids, and where each token begins and ends in the text."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]

    def before(self, message: str) -> _Text:
        return self._slice(0, self.text.index(message))

    def after(self, message: str) -> _Text:
        return self._slice(self.text.rindex(message) + len(message), len(self.text))

    def between(self, first: str, second: str) -> _Text:
        return self._slice(self.text.index(first) + len(first), self.text.rindex(second))

    def _slice(self, start: int, end: int) -> _Text:
        # A token that overlaps the message (a blank before it) belongs to the message.
        inside = [n for n, (low, high) in enumerate(self.offsets) if start <= low < high <= end]
        offsets = [(self.offsets[n][0] - start, self.offsets[n][1] - start) for n in inside]
        return _Text(self.text[start:end], [self.ids[n] for n in inside], offsets)

    def find_blanks(self) -> list[int]:
        """The ids of tokens that contain only blanks and line ends."""
        return [i for i, (low, high) in zip(self.ids, self.offsets, strict=True) if self.text[low:high].isspace()]


def _render(processor: Any, tokenizer: Any, turns: Sequence[tuple[str, str]], *, image: bool = False) -> _Text | None:
    """The conversation as the template writes it; None where it refuses, or changes the messages."""
    for as_parts in (True, False):
        messages = []
        for role, message in turns:
            content: Any = [{"type": "text", "text": message}] if as_parts else message
            if image and as_parts and role == "user":
                content = [{"type": "image"}, *content]
            messages.append({"role": role, "content": content})
        try:
            text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception:  # templates raise errors of any kind
            continue
        if isinstance(text, str) and all(text.count(message) == 1 for _, message in turns):
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            return _Text(text, list(encoded["input_ids"]), [tuple(o) for o in encoded["offset_mapping"]])
    return None


def _find_spellings(frames: Sequence[_Text]) -> list[list[int]]:
    """The longest text with which all frames end, without trailing blanks, as the tokens of each frame."""
    texts = [frame.text.rstrip() for frame in frames]
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*(text[::-1] for text in texts), strict=False))
    shared = len(list(same))
    spellings: list[list[int]] = []
    for frame, text in zip(frames, texts, strict=True):
        begin = len(text) - shared
        ids = [i for i, (low, high) in zip(frame.ids, frame.offsets, strict=True) if high > begin and low < len(text)]
        if shared and ids and ids not in spellings:
            spellings.append(ids)
    return spellings
