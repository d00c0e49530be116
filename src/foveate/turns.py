"""One user turn a row, a picture and a question about it: as the model's inputs, and its greedy answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from PIL import Image

from foveate.errors import InputError, ModelError
from foveate.load import Loaded
from foveate.prune import answers_apart


def prompts(loaded: Loaded, pictures: Sequence[Image.Image], questions: Sequence[str]) -> Any:
    """The model's inputs for these turns, a row each, picture first, padded on the left, on the model's device.

    Raises `ModelError` without a usable chat template, `InputError` if the processor refuses a picture or a question.
    """
    processor, model = loaded.processor, loaded.model
    text = [written(loaded, question) for question in questions]
    processor.tokenizer.padding_side = "left"
    bos = processor.tokenizer.bos_token
    # Some templates write the first token themselves; the tokenizer would add a second one.
    extra = {"add_special_tokens": False} if bos and text[0].startswith(bos) else {}
    nested = [[picture] for picture in pictures]  # every processor takes a list a row, not every one a flat list
    try:
        inputs = processor(text=text, images=nested, padding=len(text) > 1, return_tensors="pt", **extra)
    except ValueError as error:
        raise InputError(f"The processor of {loaded.name} refuses the picture or the question: {error}") from error
    return inputs.to(model.device, model.dtype)


def written(loaded: Loaded, question: str) -> str:
    """One turn in the words of the model's chat template. Raises as `prompts` does."""
    check_question(question, getattr(loaded.processor, "image_token", None))
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    try:
        text: str = loaded.processor.apply_chat_template([turn], add_generation_prompt=True)
    except (ValueError, TemplateError) as error:
        raise ModelError(
            f"{loaded.name} has no chat template for pictures ({error}): use an instruction-tuned model."
        ) from error
    return text


def check_question(question: str, placeholder: str | None) -> None:
    """Raise `InputError` if a question would show the model a picture that does not come."""
    if placeholder and placeholder in question:
        raise InputError(f"The question contains {placeholder!r}, which stands for a picture: leave it out.")


def answers(loaded: Loaded, inputs: Mapping[str, Any], max_new_tokens: int) -> list[str]:
    """What the model says to each row, greedily: the new text alone."""
    out = loaded.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
    new = out if answers_apart(loaded.model) else out[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in loaded.processor.batch_decode(new, skip_special_tokens=True)]
