"""Conversations with pictures as the model's inputs, and its greedy answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from foveate.errors import InputError, ModelError
from foveate.models import family_of
from foveate.pipeline.prune import answers_apart
from foveate.runtime.load import LoadedModel

ChatMessage = Mapping[str, Any]
"""One message for a chat template: a role, and as content a list of {"type": "image"} and {"type": "text", ...}."""


def make_inputs(loaded: LoadedModel, pictures: Sequence[Image.Image], questions: Sequence[str]) -> Any:
    """The model's inputs for these turns, a row each, picture first, padded on the left, on the model's device.

    Raises `ModelError` without a usable chat template, `InputError` if the processor refuses a picture or a question.
    """
    # Every processor takes a list a row, not every one a flat list.
    return _inputs(
        loaded, [format_question(loaded, question) for question in questions], [[picture] for picture in pictures]
    )


def make_chat_inputs(loaded: LoadedModel, turns: Sequence[ChatMessage], pictures: Sequence[Image.Image]) -> Any:
    """The model's inputs for one conversation; `pictures` are those of all its turns, in order.

    Raises `ModelError` without a chat template for it, `InputError` if the processor refuses its pictures or words, or
    if the model cannot do without a picture.
    """
    if not pictures and family_of(loaded.model).needs_picture:
        raise InputError(f"{loaded.name} cannot answer without a picture: send one.")
    return _inputs(loaded, [_worded(loaded, turns)], [list(pictures)] if pictures else None)


def format_question(loaded: LoadedModel, question: str) -> str:
    """One turn in the words of the model's chat template. Raises as `prompts` does."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return _worded(loaded, [{"role": "user", "content": content}])


def _worded(loaded: LoadedModel, turns: Sequence[ChatMessage]) -> str:
    for turn in turns:
        for part in turn["content"]:
            for modality in ("image", "video", "audio"):
                check_question(part.get("text", ""), getattr(loaded.processor, f"{modality}_token", None))
    problem: Exception | None = None
    for form in ([*turns], [_plain(turn) for turn in turns]):
        try:
            text: str = loaded.processor.apply_chat_template(form, add_generation_prompt=True)
        except (ValueError, TypeError, TemplateError) as error:
            problem = problem or error
            continue
        # A template that knows words alone writes a list of parts as Python would.
        if not any(str(turn["content"]) in text for turn in turns):
            return text
    raise ModelError(
        f"{loaded.name} has no chat template for this conversation ({problem or 'it does not know pictures'}): "
        "use an instruction-tuned model, and turns that it knows."
    ) from problem


def _plain(turn: ChatMessage) -> ChatMessage:
    """With its words alone where there is nothing else."""
    if any(part["type"] != "text" for part in turn["content"]):
        return turn
    return {**turn, "content": "".join(part["text"] for part in turn["content"])}


def check_question(question: str, placeholder: str | None) -> None:
    """Raise `InputError` if a question would show the model a picture that does not come."""
    if placeholder and placeholder in question:
        raise InputError(f"The question contains {placeholder!r}, which stands for a picture: leave it out.")


def _inputs(loaded: LoadedModel, text: list[str], pictures: list[list[Image.Image]] | None) -> Any:
    processor, model = loaded.processor, loaded.model
    processor.tokenizer.padding_side = "left"
    bos = processor.tokenizer.bos_token
    # Some templates write the first token themselves; the tokenizer would add a second one.
    extra: dict[str, Any] = {"add_special_tokens": False} if bos and text[0].startswith(bos) else {}
    if pictures is not None:
        extra["images"] = pictures
    try:
        inputs = processor(text=text, padding=len(text) > 1, return_tensors="pt", **extra)
    except ValueError as error:
        raise InputError(f"The processor of {loaded.name} refuses the picture or the question: {error}") from error
    return inputs.to(model.device, model.dtype)


def generate_answers(loaded: LoadedModel, inputs: Mapping[str, Any], max_new_tokens: int) -> list[str]:
    """What the model says to each row, greedily: the new text alone."""
    out = loaded.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
    new = out if answers_apart(loaded.model) else out[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in loaded.processor.batch_decode(new, skip_special_tokens=True)]
