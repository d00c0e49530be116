"""One chat completion: a checked request, the work that answers it, and its answer in one piece or as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveate.apps.serve.answer import Answered, Pruned, answer, context, last_position, prune
from foveate.apps.serve.errors import Refused
from foveate.apps.serve.metrics import Metrics
from foveate.apps.serve.pictures import Source, opened
from foveate.apps.serve.protocol import Completion, Words, about, event, parse
from foveate.apps.serve.settings import Settings
from foveate.apps.serve.worker import Job
from foveate.pipeline.prune import check_settings
from foveate.runtime.conversation import ChatMessage, make_chat_inputs
from foveate.runtime.load import LoadedModel
from foveate.runtime.warnings import collect_warnings

LETTERS = 64  # of one token, and more than any sensible text has on average


@dataclass(frozen=True, eq=False)
class Chat:
    """A request that can be followed: its picture files are fetched and looked at, though not yet decoded."""

    request: Completion
    """Without its messages, which hold the pictures once more."""
    turns: Sequence[ChatMessage]
    settings: Settings
    files: Sequence[bytes]
    notes: tuple[str, ...]
    new: int | None
    """The most tokens that the request asked for."""


def read(body: bytes, settings: Settings, loaded: LoadedModel) -> Chat:
    """Check a request's body. Raises `Refused` or a `FoveateError`."""
    request, limits = parse(body), settings.limits
    if request.model != loaded.name:
        raise Refused(
            404, f"There is no model {request.model!r} here: this server has {loaded.name!r}.",
            code="model_not_found", param="model",
        )  # fmt: skip
    asked = {name: getattr(request, name) for name in ("keep", "method", "positions")}
    settings = replace(settings, **{name: value for name, value in asked.items() if value is not None})
    check_settings(settings.keep, settings.method, settings.positions)
    request.stops()
    if request.stream_options.include_usage and not request.stream:
        raise Refused(400, "stream_options are for a stream: ask for one, or leave them out.", param="stream_options")
    new = min((most for most in (request.max_completion_tokens, request.max_tokens) if most), default=None)
    if new is not None and new > limits.new:
        raise Refused(400, f"The server answers in at most {limits.new} tokens: ask for no more.", param="max_tokens")
    images = request.images()
    if len(images) > limits.images:
        raise Refused(
            400, f"The conversation shows {len(images)} pictures: this server takes {limits.images} at most.",
            code="too_many_images", param="messages",
        )  # fmt: skip
    turns = request.turns()
    _check_letters(turns, limits.prompt or context(loaded.model))
    details = {image.detail for image in images} - {"auto", "high", "original"}
    notes = tuple(f"detail={detail!r} has no effect here: lower keep instead." for detail in sorted(details))
    files = Source(limits.pixels, limits.body, settings.origins).read([image.url for image in images])
    return Chat(request.model_copy(update={"messages": []}), turns, settings, files, notes, new)


def _check_letters(turns: Sequence[ChatMessage], most: int | None) -> None:
    """Refuse text that is far too long by its letters, before it takes time to cut it into tokens."""
    letters = sum(len(part.get("text", "")) for turn in turns for part in turn["content"])
    if most is not None and letters > most * LETTERS:
        raise _too_long(f"The conversation has {letters} letters, for a prompt of at most {most} tokens.")


@dataclass(frozen=True, eq=False)
class Ready:
    """The prompt is pruned and the answer begins."""

    pruned: Pruned
    notes: tuple[str, ...]


def work(loaded: LoadedModel, chat: Chat, metrics: Metrics, job: Job) -> None:
    """On the worker's thread: tells `Ready`, then pieces of text, then `Answered`."""
    request = chat.request
    with collect_warnings() as notes:
        pruned = _pruned(loaded, chat)
    new = _room(loaded, pruned, chat)
    metrics.pruned(pruned)
    job.emit(Ready(pruned, (*chat.notes, *notes)))
    answered = answer(
        loaded, pruned.inputs, job.emit, new=new, stop=request.stops(), sampling=request.sampling(),
        cancelled=lambda: job.cancelled,
    )  # fmt: skip
    metrics.answered(answered)
    job.emit(answered)


def _pruned(loaded: LoadedModel, chat: Chat) -> Pruned:
    settings = chat.settings
    inputs = make_chat_inputs(loaded, chat.turns, opened(chat.files))
    length, most = inputs["input_ids"].shape[1], settings.limits.prompt
    if most is not None and length > most:
        raise _too_long(f"The prompt has {length} tokens before pruning: this server takes {most} at most.")
    return prune(loaded, inputs, keep=settings.keep, method=settings.method, positions=settings.positions)


def _room(loaded: LoadedModel, pruned: Pruned, chat: Chat) -> int:
    """How many new tokens fit behind the prompt, and are allowed."""
    wanted, most = chat.new or chat.settings.limits.new, context(loaded.model)
    if most is None:
        return wanted
    length = last_position(pruned.inputs) + 1
    if length + (chat.new or 1) > most:
        raise _too_long(
            f"The prompt ends at token {length}, of {most} that prompt and answer may have with this model."
        )
    return min(wanted, most - length)


def _too_long(text: str) -> Refused:
    return Refused(400, f"{text} Shorten the conversation.", code="context_length_exceeded", param="messages")


async def whole(ready: Ready, events: AsyncIterator[Any], words: Words) -> dict[str, Any]:
    """The answer in one piece."""
    text = ""
    async for told in events:
        if isinstance(told, Answered):
            return words.whole(text, ready.pruned, told, ready.notes)
        text += told
    raise AssertionError("The work ended without a word on how.")


async def stream(ready: Ready, events: AsyncIterator[Any], words: Words, *, usage: bool) -> AsyncIterator[str]:
    """The answer as server-sent events, with what became of the pictures at its end."""
    yield event(words.piece({"role": "assistant", "content": ""}))
    async for told in events:
        if not isinstance(told, Answered):
            yield event(words.piece({"content": told}))
            continue
        yield event(words.piece({}, told.reason, foveate=about(ready.pruned, told, ready.notes)))
        if usage:
            yield event(words.last(ready.pruned, told))
    yield event("[DONE]")
