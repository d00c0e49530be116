"""`learn_template`: how a chat template marks the user's question, read from a few short conversations.

Without it, the question is found by the special tokens of the configuration. That works for ChatML and similar
templates; many others mark turns with ordinary text, or with special tokens that no configuration names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import takewhile
from typing import Any

from foveate.errors import ModelError, describe
from foveate.models.chat_template import BLANKS, OTHER, PREAMBLE, SPECIALS, USER, ChatTemplate, spell
from foveate.models.wrappers import unwrap
from foveate.pipeline.question import LEARNED

# Words that no template contains, of letters alone: every vocabulary spells them as they are.
FIRST, ANSWER, SECOND, SYSTEM, RESULT = "quailwhale", "otterheron", "raventapir", "lemurbison", "finchzebra"
TOOLS = ("gnuibis", "yakkoala")
SYSTEM_SAYS, USER_SAYS = {"role": "system", "content": SYSTEM}, {"role": "user", "content": FIRST}
ASSISTANT_SAYS = {"role": "assistant", "content": ANSWER}
BY_HAND = "set config.foveate_template by hand."


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
    owner = unwrap(model)
    if not hasattr(owner, "config"):
        raise ModelError(f"model is {describe(model)}: pass the model whose prompts will be pruned.")
    learned = read_chat_template(processor)
    # A plain dict: whoever loads a pickle of the model needs no class of ours.
    setattr(owner, LEARNED, {field.name: getattr(learned, field.name) for field in fields(learned)})


def read_chat_template(processor: Any) -> ChatTemplate:
    """What opens and ends the user's turns in a processor's chat template. Raises as `learn_template` does."""
    probe = _Probe(processor)
    single, closed = probe.render([USER_SAYS]), probe.render([USER_SAYS], prompt=False)
    dialog = probe.render([USER_SAYS, ASSISTANT_SAYS, {"role": "user", "content": SECOND}])
    if single is None or dialog is None:
        raise ModelError(f"This processor has no chat template for a question: {BY_HAND}")
    openings = _find_openings([_cut(single, "", FIRST), _cut(dialog, ANSWER, SECOND)])
    endings = _find_endings([_cut(dialog, FIRST, ANSWER), _cut(dialog, SECOND), _cut(closed or single, FIRST)])
    if not openings or not endings:
        raise ModelError(f"This chat template does not separate user and assistant: {BY_HAND}")
    learned = ChatTemplate(
        probe.tokenizer, probe.specials, dict.fromkeys(openings, USER), endings, {}, lead=probe.find_lead()
    )
    for add in (_add_tools, _add_results, _add_system, _add_inserts):
        learned = add(learned, probe, openings[-1])
    return learned


class _Probe:
    """Renders short conversations, in the spelling of the vocabulary's tokens."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError("The chat template cannot be read with a slow tokenizer: load the fast one.")
        self.specials = [i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special]

    def spell(self, text: str) -> str:
        """The text as its tokens spell it."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return "".join(spell(self.tokenizer, self.specials, ids))

    def find_lead(self) -> str:
        """The blank lines that the processor itself writes before an image."""
        image = getattr(self.processor, "full_image_sequence", "")
        return self.spell(image[: len(image) - len(image.lstrip())])

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, prompt: bool = True, image: bool = False, **options: Any
    ) -> str | None:
        """The conversation as the template writes it; None where it refuses, or changes the messages."""
        words = [message["content"] for message in messages if message["content"]]
        shown = [{"type": "image"}] if image else []
        parts = [{**m, "content": [*shown, {"type": "text", "text": m["content"]}]} for m in messages]
        for form in (parts, messages)[: 1 if image else 2]:
            try:
                text = self.processor.apply_chat_template(form, tokenize=False, add_generation_prompt=prompt, **options)
            except Exception:  # templates raise errors of any kind
                continue
            spelled = self.spell(text) if isinstance(text, str) else ""
            # A template that expects text prints the parts as Python or JSON does.
            if form is parts and any(f"{quote}{word}{quote}" in text for word in words for quote in "'\""):
                continue
            if all(spelled.count(word) == 1 for word in words):
                return spelled
        return None


def _add_system(learned: ChatTemplate, probe: _Probe, opening: str) -> ChatTemplate:
    """How the user's words begin where the template writes the system's words into the user's turn."""
    system = probe.render([SYSTEM_SAYS, USER_SAYS])
    end = opening if system is None else _cut(system, SYSTEM, FIRST)
    if system is None or end.strip(BLANKS).endswith(opening):
        return learned
    start = _cut_from(opening, _cut(system, "", SYSTEM))
    if start and end.strip(BLANKS):
        role = USER if start == opening else PREAMBLE
        return replace(learned, openings={**learned.openings, start: role}, resumes={**learned.resumes, start: end})
    if end.strip(BLANKS):
        return replace(learned, openings={**learned.openings, end.strip(BLANKS): USER})
    longer = probe.render([SYSTEM_SAYS, USER_SAYS, ASSISTANT_SAYS, {"role": "user", "content": SECOND}])
    last = longer is not None and longer.index(SYSTEM) > longer.index(ANSWER)
    return replace(learned, merged="last" if last else "first", separator=end) if end else learned


def _add_tools(learned: ChatTemplate, probe: _Probe, opening: str) -> ChatTemplate:
    """How the user's words begin where the template writes the descriptions of tools into the user's turn."""
    frames = [probe.render([USER_SAYS], tools=[_describe_tool(name)]) or "" for name in TOOLS]
    starts = [_cut_from(opening, _cut(frame, "", FIRST)) for frame in frames]
    end = _find_suffix([_cut(frame, "", FIRST) for frame in frames])
    end = end[max(end.rfind("}"), end.rfind("]"), 0) :]  # descriptions may also be plain words
    if opening in starts or not all(starts) or not end.strip(BLANKS):
        return learned
    start = opening + re.split(r"[{\[]", _find_prefix(starts)[len(opening) :])[0].rstrip(BLANKS)
    role = USER if start == opening else PREAMBLE
    return replace(learned, openings={**learned.openings, start: role}, resumes={**learned.resumes, start: end})


def _add_results(learned: ChatTemplate, probe: _Probe, opening: str) -> ChatTemplate:
    """What opens the result of a tool that the template writes as a turn of the user."""
    frames = [probe.render([USER_SAYS, *_call_tool(name)]) or "" for name in TOOLS]
    start = _find_prefix([_cut_from(opening, _cut(frame, FIRST, RESULT)) for frame in frames])
    if start == opening:
        return replace(learned, has_unmarked_results=True)
    return replace(learned, openings={start: OTHER, **learned.openings}) if start else learned


def _add_inserts(learned: ChatTemplate, probe: _Probe, opening: str) -> ChatTemplate:
    """The words that the template itself writes beside an image, as patterns with any number in them."""
    single = probe.render([USER_SAYS], image=True) or ""
    before, after = _cut_from(opening, _cut(single, "", FIRST))[len(opening) :], _cut(single, FIRST)
    inserts = []
    for frame in (before, after.partition(learned.endings[0])[0]):
        for mark, words, end in re.findall(f"({SPECIALS}?)([^{SPECIALS[1:]}+)(?=({SPECIALS}?))", frame):
            if words.strip(BLANKS) and mark + end:
                words = words[0 if mark else len(words) - len(words.lstrip(BLANKS)) :]
                pattern = re.sub(r"\d+", lambda _: r"\d+", re.escape(words if end else words.rstrip(BLANKS)))
                inserts.append((f"(?<={mark})" if mark else "") + pattern + (f"(?={end})" if end else ""))
    return replace(learned, inserts=inserts)


def _describe_tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {name: {"type": "string", "description": name}}, "required": [name]}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


def _call_tool(name: str) -> list[dict[str, Any]]:
    call = {"id": "callnumb1", "type": "function", "function": {"name": name, "arguments": {name: name}}}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": RESULT, "name": name, "tool_call_id": "callnumb1"},
    ]


def _cut(text: str, start: str, end: str = "") -> str:
    """What stands between two of the text's words; from its start and to its end where one is empty."""
    text = text.partition(start)[2] if start else text
    return text.partition(end)[0] if end else text


def _cut_from(opening: str, text: str) -> str:
    """The text from the last opening on, without blanks at its end; empty where there is none."""
    return (opening + text.rpartition(opening)[2]).rstrip(BLANKS) if opening in text else ""


def _find_prefix(texts: Sequence[str]) -> str:
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    return "".join(characters[0] for characters in same)


def _find_suffix(texts: Sequence[str]) -> str:
    return _find_prefix([text[::-1] for text in texts])[::-1]


def _find_openings(frames: Sequence[str]) -> list[str]:
    """What all frames end with; the frames themselves where that is nothing."""
    frames = [frame.strip(BLANKS) for frame in frames]
    shared = _find_suffix(frames).strip(BLANKS)
    return [shared] if shared else frames if all(frames) else []


def _find_endings(frames: Sequence[str]) -> list[str]:
    """What all frames that hold anything begin with; the frames themselves where that is nothing."""
    frames = [frame.strip(BLANKS) for frame in frames if frame.strip(BLANKS)]
    shared = _find_prefix(frames).strip(BLANKS)
    return [shared] if shared else list(dict.fromkeys(frames))
