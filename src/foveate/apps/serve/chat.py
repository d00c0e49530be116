"""One chat completion: check the request, run the job, collect or stream its events."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveate.apps.encoder import WHOLE
from foveate.apps.serve.chat_request import CompletionRequest, parse_request
from foveate.apps.serve.chat_response import ChatCompletion, ResponseWriter, server_sent_event
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.events import AnswerEnd, ChatEvent, PromptReady, TextPiece
from foveate.apps.serve.generation import PrunedPrompt, generate_answer, limit_new_tokens, prune_prompt
from foveate.apps.serve.images import ImageSource, open_images
from foveate.apps.serve.request_log import RequestRecord
from foveate.apps.serve.settings import ServeSettings
from foveate.apps.serve.videos import check_videos, open_videos, read_videos
from foveate.apps.serve.worker import ModelJob
from foveate.errors import FoveateError, InputError
from foveate.runtime.context import context_length
from foveate.runtime.conversation import ChatMessage, apply_template
from foveate.runtime.image_cache import ImageCache
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.media import Shown, prepare_shown
from foveate.runtime.warnings import collect_warnings

MAX_CHARACTERS = 64  # of one token, far above the average of real text
PIECE, SLACK = 2**16, 16  # characters that are tokenized at a time, and tokens that a cut may add


@dataclass(frozen=True, eq=False)
class ChatTask:
    """A checked request with its image and video files, which are not yet decoded.

    `request` has no messages, since these hold the images once more. `max_new_tokens` is None if the request sets none.
    """

    request: CompletionRequest
    prompt: str
    settings: ServeSettings
    urls: Sequence[str]
    files: Sequence[bytes]
    notes: tuple[str, ...]
    max_new_tokens: int | None
    video_urls: Sequence[str] = ()
    videos: Sequence[bytes] = ()


def read_task(
    body: bytes, settings: ServeSettings, loaded: LoadedModel, tokenizer: Any, job: ModelJob[ChatTask]
) -> None:
    """Parse and check a request body, and emit the task without its image files.

    `tokenizer` is a copy for this thread alone. Raises `RequestError` or a `FoveateError`.
    """
    request, limits = parse_request(body), settings.limits
    if request.model != loaded.name:
        message = f"There is no model {request.model!r} here: this server has {loaded.name!r}."
        raise RequestError(404, message, code="model_not_found", param="model")
    settings = _override_settings(request, settings, loaded.model)
    request.stops()
    if request.stream_options.include_usage and not request.stream:
        raise RequestError(400, "stream_options need a stream: set stream, or leave them out.", param="stream_options")
    new = min((most for most in (request.max_completion_tokens, request.max_tokens) if most), default=None)
    if new is not None and new > limits.new:
        raise RequestError(400, f"An answer has at most {limits.new} tokens here: lower the limit.", param="max_tokens")
    images, videos = request.images(), request.videos()
    check_videos(videos, limits)
    if (count := len(images) + len(videos)) > limits.images:
        message = f"The conversation has {count} images and videos: this server takes {limits.images} at most."
        raise RequestError(400, message, code="too_many_images", param="messages")
    turns, max_tokens = request.turns(), limits.prompt or context_length(loaded.model)
    _check_characters(turns, max_tokens)
    prompt = apply_template(loaded, turns)
    if max_tokens is not None:
        _check_tokens(prompt, max_tokens, tokenizer, lambda: job.cancelled)
    details = {image.detail for image in images} - {"auto", "high", "original"}
    notes = tuple(f"detail={detail!r} has no effect here: lower keep instead." for detail in sorted(details))
    urls = [image.url for image in images]
    bare = request.model_copy(update={"messages": []})
    job.emit(ChatTask(bare, prompt, settings, urls, (), notes, new, video_urls=videos))


def _override_settings(request: CompletionRequest, settings: ServeSettings, model: Any) -> ServeSettings:
    """The server's settings with the request's own in their place. Raises a `FoveateError` if they do not fit."""
    names = ("keep", "method", "positions")
    own = {name: value for name in names if (value := getattr(request, name)) is not None}
    settings = replace(settings, **own, encoder=request.encoder(settings.encoder))
    try:
        return settings.check(model)
    except FoveateError as error:
        if request.encode is not None or request.skip is not None or settings.encoder.is_whole:
            raise
        replace(settings, encoder=WHOLE).check(model)  # raises what has nothing to do with the encoder
        raise InputError(f'{error} This server encodes parts by default: "encode": 1.0 encodes all.') from error


def read_images(task: ChatTask, source: ImageSource, fetched: Mapping[str, bytes], job: ModelJob[ChatTask]) -> None:
    """Emit the task with its image files. Raises `RequestError`."""
    files, videos = source.read(task.urls, fetched), read_videos(task.video_urls)
    job.emit(replace(task, urls=(), files=files, video_urls=(), videos=videos))


def _check_characters(turns: Sequence[ChatMessage], max_tokens: int | None) -> None:
    """Refuse text that is far too long before the slow tokenizer reads it."""
    count = sum(len(part.get("text", "")) for turn in turns for part in turn["content"])
    if max_tokens is not None and count > max_tokens * MAX_CHARACTERS:
        raise _too_long(f"The conversation has {count} characters, for a prompt of at most {max_tokens} tokens.")


def _check_tokens(prompt: str, max_tokens: int, tokenizer: Any, is_cancelled: Callable[[], bool]) -> None:
    """Refuse text with more tokens than the prompt may have; no more of it is tokenized than that takes."""
    count = 0
    for start in range(0, len(prompt), PIECE):
        if is_cancelled():
            return
        count += len(tokenizer(prompt[start : start + PIECE], add_special_tokens=False)["input_ids"]) - SLACK
        if count > max_tokens:
            raise _too_long(f"The conversation has more than {max_tokens} tokens, without its images.")


def run_task(cache: ImageCache, task: ChatTask, record: RequestRecord, job: ModelJob[ChatEvent]) -> None:
    """Answer a request on the worker's thread: emits `PromptReady`, then each `TextPiece`, then `AnswerEnd`."""
    loaded = cache.loaded
    with collect_warnings() as notes:
        prompt = _prune(cache, task, lambda: job.cancelled)
    requested = task.max_new_tokens or task.settings.limits.new
    max_new_tokens = limit_new_tokens(loaded.model, prompt.inputs, requested, required=task.max_new_tokens or 1)
    record.add_prompt(prompt)
    job.emit(PromptReady())
    result = generate_answer(
        loaded, prompt.inputs, lambda text: job.emit(TextPiece(text)), max_new_tokens=max_new_tokens,
        stop=task.request.stops(), sampling=task.request.sampling(), is_cancelled=lambda: job.cancelled,
    )  # fmt: skip
    record.add_answer(result)
    job.emit(AnswerEnd(prompt, result, (*task.notes, *notes)))


def _prune(cache: ImageCache, task: ChatTask, is_cancelled: Callable[[], bool]) -> PrunedPrompt:
    settings, limit = task.settings, task.settings.limits.prompt

    def check_length(inputs: Mapping[str, Any]) -> None:
        length = inputs["input_ids"].shape[1]
        if limit is not None and length > limit:
            raise _too_long(f"The prompt has {length} tokens before pruning: this server takes {limit} at most.")

    clips = open_videos(cache.loaded, task.videos, settings.limits, is_cancelled)
    shown: list[Shown] = [*open_images(task.files, is_cancelled), *clips]
    prepared = prepare_shown(
        cache, task.prompt, shown, settings.method, check_length, is_whole=settings.encoder.is_whole
    )
    prompt = prune_prompt(cache.loaded, prepared.inputs, **settings.pruning, encoded=prepared.encoded)
    seconds = prompt.encode_seconds + prepared.seconds
    return replace(prompt, encode_seconds=seconds, reused=prepared.known)


def _too_long(text: str) -> RequestError:
    return RequestError(400, f"{text} Shorten the conversation.", code="context_length_exceeded", param="messages")


async def collect_answer(events: AsyncIterator[ChatEvent], writer: ResponseWriter) -> ChatCompletion:
    """The answer in one piece."""
    answer = ""
    async for event in events:
        match event:
            case TextPiece(text):
                answer += text
            case AnswerEnd():
                return writer.completion(answer, event)
    raise AssertionError("The job ended without AnswerEnd.")


async def stream_answer(
    events: AsyncIterator[ChatEvent], writer: ResponseWriter, *, include_usage: bool
) -> AsyncIterator[str]:
    """The answer as server-sent events, with the details of pruning at its end."""
    yield server_sent_event(writer.chunk({"role": "assistant", "content": ""}))
    async for event in events:
        match event:
            case TextPiece(text):
                yield server_sent_event(writer.chunk({"content": text}))
            case AnswerEnd():
                yield server_sent_event(writer.last_chunk(event))
                if include_usage:
                    yield server_sent_event(writer.usage_chunk(event))
    yield server_sent_event("[DONE]")
