"""Conversations with images as the model's inputs, and its greedy answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from PIL import Image
from transformers import LogitsProcessorList

from foveate.errors import InputError, ModelError
from foveate.models import family_of
from foveate.models.generation import has_own_decoder
from foveate.runtime.files import to_upright_rgb
from foveate.runtime.loaded import LoadedModel

ChatMessage = Mapping[str, Any]
"""A message for a chat template: a role, and as content a list of {"type": "image"} and {"type": "text", ...}."""


def make_inputs(loaded: LoadedModel, images: Sequence[Image.Image], questions: Sequence[str]) -> Any:
    """The model's inputs for one question about each image, a row each, padded on the left, on the model's device.

    Raises `ModelError` without a usable chat template, `InputError` if the processor refuses an image or a question.
    """
    # Every processor takes a list of images for each row, but not every one a flat list.
    return process_prompts(
        loaded, [format_question(loaded, question) for question in questions], [[each] for each in images]
    )


def make_chat_inputs(loaded: LoadedModel, messages: Sequence[ChatMessage], images: Sequence[Image.Image]) -> Any:
    """The model's inputs for one conversation; `images` are those of all its messages, in order.

    Raises `ModelError` without a chat template for it, `InputError` if the processor refuses its images or text, or if
    the model needs an image and there is none.
    """
    return process_chat(loaded, apply_template(loaded, messages), images)


def process_chat(
    loaded: LoadedModel, prompt: str, images: Sequence[Image.Image], media: Mapping[str, Any] | None = None
) -> Any:
    """The model's inputs for the prompt of a conversation; `media` are arguments for its videos and audios.

    Raises as `make_chat_inputs` does.
    """
    if not images and not media and family_of(loaded.model).traits.needs_image:
        raise InputError(f"{loaded.name} cannot answer without an image: send one.")
    return process_prompts(loaded, [prompt], [list(images)] if images else None, media)


def format_question(loaded: LoadedModel, question: str) -> str:
    """The prompt for an image and a question, by the model's chat template. Raises as `make_inputs` does."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return apply_template(loaded, [{"role": "user", "content": content}])


def apply_template(loaded: LoadedModel, messages: Sequence[ChatMessage]) -> str:
    """The prompt for a conversation, by the model's chat template. Raises as `make_chat_inputs` does."""
    for message in messages:
        for part in message["content"]:
            for modality in ("image", "video", "audio"):
                check_question(part.get("text", ""), getattr(loaded.processor, f"{modality}_token", None))
    # One message of each form: to search for all of them would take messages times text.
    samples = {(each["role"], frozenset(part["type"] for part in each["content"])): each for each in messages}
    problem: Exception | None = None
    for form in ([*messages], [_flatten(message) for message in messages]):
        try:
            text: str = loaded.processor.apply_chat_template(form, add_generation_prompt=True)
        except (ValueError, TypeError, TemplateError) as error:
            problem = problem or error
            continue
        # A template that expects text prints a list of parts as Python does.
        if not any(str(message["content"]) in text for message in samples.values()):
            return text
    raise ModelError(
        f"{loaded.name} has no chat template for this conversation ({problem or 'it does not support images'}): "
        "use an instruction-tuned model, and roles that it knows."
    ) from problem


def _flatten(message: ChatMessage) -> ChatMessage:
    """Where all parts are text, the message with its text as content."""
    if any(part["type"] != "text" for part in message["content"]):
        return message
    return {**message, "content": "".join(part["text"] for part in message["content"])}


def check_question(question: str, placeholder: str | None) -> None:
    """Raise `InputError` for a question with an image placeholder, for which there is no image."""
    if placeholder and placeholder in question:
        raise InputError(f"The question contains {placeholder!r}, which stands for an image: leave it out.")


def process_prompts(
    loaded: LoadedModel, text: list[str], images: list[list[Image.Image]] | None, media: Mapping[str, Any] | None = None
) -> Any:
    """The model's inputs for prompts and the images of each. Raises `InputError` if the processor refuses them."""
    processor, model = loaded.processor, loaded.model
    processor.tokenizer.padding_side = "left"
    bos = processor.tokenizer.bos_token
    # Some templates write the first token themselves; the tokenizer would add a second one.
    extra: dict[str, Any] = {"add_special_tokens": False} if bos and text[0].startswith(bos) else {}
    extra |= media or {}
    if "audio" not in extra:  # it has a rule of its own
        extra["padding"] = len(text) > 1
    if images is not None:
        extra["images"] = [[to_upright_rgb(image) for image in row] for row in images]
    try:
        inputs = processor(text=text, return_tensors="pt", **extra)
    except ValueError as error:
        raise InputError(f"The processor of {loaded.name} refuses the image or the question: {error}") from error
    # Where the first weights are on disk, accelerate moves the inputs.
    return inputs.to("cpu" if model.device.type == "meta" else model.device, model.dtype)


def generate_answers(
    loaded: LoadedModel, inputs: Mapping[str, Any], max_new_tokens: int, processors: Sequence[Any] = ()
) -> list[str]:
    """The model's greedy answer to each row, without the prompt; `processors` read the logits."""
    out = loaded.model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        logits_processor=LogitsProcessorList(processors),
    )
    has_prompt = not has_own_decoder(loaded.model) and "input_ids" in inputs
    new = out[:, inputs["input_ids"].shape[1] :] if has_prompt else out
    return [text.strip() for text in loaded.processor.batch_decode(new, skip_special_tokens=True)]
