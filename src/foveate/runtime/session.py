"""`Session`: a conversation about images, which are encoded once and chosen from anew for every question."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

from foveate.errors import InputError, describe
from foveate.method import Method
from foveate.method.checks import is_int
from foveate.method.memory import StreamSettings
from foveate.models.visual_input import VisualInput
from foveate.pipeline.report import PrunedInputs
from foveate.pipeline.settings import Keep, Positions
from foveate.runtime.context import measure_room
from foveate.runtime.conversation import ChatMessage, apply_template
from foveate.runtime.image_cache import ImageCache, PreparedPrompt
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.media import Seen, Shown, check_mix, is_image, make_sound, prepare_shown, read_image, read_shown
from foveate.runtime.prompt_cache import PromptCache
from foveate.runtime.reply import Reply
from foveate.runtime.stream import Stream
from foveate.runtime.turns import Turns, check_turns

GIB = 2**30


class Session:
    """A conversation with a vision-language model about images, clips, sounds and the frames of a stream.

    Every image is encoded once, at the first question after it was shown. For each question the tokens of all images
    are chosen anew, so that "and left of it?" keeps what it needs; or as `turns` says. What a prompt begins with as the
    one before did is not computed again.

    Args:
        model: A model of transformers.
        processor: Its processor, with a chat template.
        keep: The budget of each image, as in `prune_inputs`; with `Recency` images get less as newer ones come.
        method: A method's name, or a configured method.
        positions: As in `prune_inputs`; "compact" lets more images fit into the model's context.
        memory: At most so many visual tokens in the prompt, of all images together. Where `keep` leaves more, the
            images share them by relevance. None for no limit.
        turns: Which tokens a further question gets. "rechoose": all images are chosen from anew. "frozen": what was
            kept of earlier images stays as it is. "recall": it stays, and what the question needs beside it is put
            behind the last answer, with its own positions. "picture": each image is chosen from once, without the
            question.
        system: The text of a system turn.
        cache_bytes: Limit for the encoded images. Those not used for longest are encoded again when they are needed.
        stream: How much is remembered of frames.
        modalities: What is pruned, as in `prune_inputs`; with "audio" sounds share `memory` with all else.

    Raises:
        InputError: A setting is wrong.

    Example:
        with foveate.Session(model, processor, keep=0.1) as session:
            session.see(image)
            for piece in session.ask("what is on the table?"):
                print(piece, end="")
            print(session.ask("and left of it?"))
    """

    def __init__(
        self, model: Any, processor: Any, *, keep: Keep, method: str | Method = "foveate",
        positions: Positions = "original", memory: int | None = None, turns: Turns = "rechoose",
        system: str | None = None, cache_bytes: int = GIB, stream: StreamSettings | None = None,
        modalities: Sequence[str] = ("image", "video"),
    ) -> None:  # fmt: skip
        self._policy = check_turns(turns, keep, method, positions, memory, modalities)
        for name, value, least in (("memory", memory, 1), ("cache_bytes", cache_bytes, 0)):
            if value is not None and (not is_int(value) or value < least):
                raise InputError(f"{name}={describe(value)} is not a number of at least {least}: use an int.")
        name = str(getattr(model.config, "_name_or_path", "")) or str(model.config.model_type)
        self._cache = ImageCache(LoadedModel(model, processor, (), name), cache_bytes)
        if not isinstance(stream, StreamSettings | None):
            raise InputError(f"stream={describe(stream)} is no foveate.StreamSettings: make one, or leave it out.")
        self._stream = Stream(self._cache, method, stream or StreamSettings())
        self._prompts = PromptCache(model, is_compact=positions == "compact")
        self._kept: tuple[VisualInput, ...] = ()  # of the images of the last complete turn
        system_turn: ChatMessage = {"role": "system", "content": [{"type": "text", "text": system}]}
        self._messages: list[ChatMessage] = [system_turn] if system else []
        self._images: list[Shown] = []
        self._shown: list[Shown] = []  # since the last question
        self._last: tuple[Reply, threading.Thread] | None = None
        self._is_turn_kept = True  # the last one
        self._lock, self._is_closed = threading.RLock(), False

    def __enter__(self) -> Session:
        """The session."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it: a running answer stops, and nothing stays in memory."""
        self.close()

    @property
    def messages(self) -> list[ChatMessage]:
        """The turns so far, in the form of chat templates; the answers that are complete."""
        with self._lock:
            self._finish()
            return list(self._messages)

    @property
    def stream(self) -> Stream:
        """What is remembered of the frames: their `times`, and how many `tokens` and `bytes`."""
        return self._stream

    def see(self, *images: Seen, at: float | None = None) -> None:
        """Show images and clips, before the next question, or a frame of a stream.

        Frames are encoded at once, in bounded memory and time. A prompt shows those of which something is remembered,
        each after its time: the newest as a whole, of older ones what has changed since.

        Args:
            *images: Images of Pillow, or clips: lists of (seconds, image), as `read_clip` returns them. One image if it
                is a frame.
            at: The time of the frame in seconds, above that of the last one. None for an image that is no frame.

        Raises:
            InputError: The session is closed; something is no image and no clip, or the model does not read clips, or
                frames one by one; a frame does not come in order of time; `keep` is a policy, or `turns` keeps choices,
                and this is a frame.
            KeepError: A frame has more tokens than `stream` allows.

        Example:
            session.see(frame, at=12.5)
        """
        if at is not None and len(images) != 1:
            raise InputError(f"at={describe(at)} came with {len(images)} images: show frames one by one.")
        with self._lock:
            self._check_open()
            if at is not None:
                self._policy.check_stream()
                check_mix(before := [*self._images, *self._shown], self._policy.settings, has_frames=True)
                turn = sum(message["role"] == "user" for message in self._messages)
                self._stream.add(read_image(images[0]), at, turn, [each for each in before if is_image(each)])
            else:
                self._show([read_shown(self._cache.loaded, each) for each in images])

    def hear(self, samples: Any, sampling_rate: int) -> None:
        """Play a sound, before the next question, to a model that hears.

        Args:
            samples: (n,) numbers from -1 to 1, one channel.
            sampling_rate: Samples a second: as many as the processor's.

        Raises:
            InputError: The samples are no sound, their rate is another, or the model hears none.

        Example:
            session.hear(samples, 16000)
        """
        with self._lock:
            self._check_open()
            self._show([make_sound(self._cache.loaded, samples, sampling_rate)])

    def ask(self, question: str, *, max_new_tokens: int = 256, remember: bool = True, **options: Any) -> Reply:
        """Ask about all images so far. The answer is generated in the background; the next question waits for its end.

        Args:
            question: The text of the turn.
            max_new_tokens: Tokens of the answer, at most; fewer where the model has no room for them.
            remember: Whether later questions follow this one and its answer. Images stay in any case.
            **options: More for the model's `generate`, such as `do_sample=True`.

        Returns:
            The answer, to be iterated over or turned into a string.

        Raises:
            InputError: The question is empty, or the conversation is too long for the model. The session is then as it
                was before.
            KeepError: `memory` has no token for every image.
        """
        if not isinstance(question, str) or not question.strip():
            raise InputError(f"The question is {describe(question)}: ask with a text.")
        with self._lock:
            self._check_open()
            self._finish()
            content = [*[{"type": each.modality} for each in self._shown], {"type": "text", "text": question}]
            messages = [*self._messages, {"role": "user", "content": content}]
            images = [*self._images, *self._shown]
            prepared = self._prepare(messages, images)
            inputs, room = self._prune(prepared)
            options["max_new_tokens"] = min(max_new_tokens, room or max_new_tokens)
            rest, options, cached = self._prompts.begin(inputs, options, appends=self._policy.appends)
            loaded = self._cache.loaded
            reply = Reply(inputs.report, prepared.known, cached=cached, times=prepared.times)
            thread = reply.start(loaded.model, loaded.processor.tokenizer, rest, options, self._prompts.finish)
            self._messages, self._images, self._shown, self._last = messages, images, [], (reply, thread)
            self._is_turn_kept = remember
            return reply

    def _show(self, shown: list[Shown]) -> None:
        check_mix(shown, self._policy.settings, has_frames=bool(self._stream.times))
        self._stream.check_images([each for each in shown if is_image(each)])
        self._shown += shown

    def close(self) -> None:
        """Stop a running answer and forget all turns and images."""
        with self._lock:
            if self._last is not None:
                self._last[0].cancel()
                self._last[1].join()
            self._last, self._messages, self._images, self._shown, self._kept = None, [], [], [], ()
            self._is_closed = True
            self._cache.clear()
            self._stream.clear()
            self._prompts.clear()

    @torch.no_grad()
    def _prepare(self, messages: list[ChatMessage], shown: list[Shown]) -> PreparedPrompt:
        """The inputs of the conversation, what it shows encoded."""
        if self._stream.times:
            images = [each for each in shown if is_image(each)]
            return self._stream.prepare(messages, images, self._policy.memory)
        prompt = apply_template(self._cache.loaded, messages)
        return prepare_shown(self._cache, prompt, shown, self._policy.settings.method)

    @torch.no_grad()
    def _prune(self, prepared: PreparedPrompt) -> tuple[PrunedInputs, int | None]:
        """The pruned inputs of the conversation, and the room for an answer."""
        short = self._policy.prune(self._cache.loaded.model, prepared, self._kept)
        return short, measure_room(self._cache.loaded.model, short)

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("The session is closed: open a new one.")

    def _finish(self) -> None:
        """Wait for the last answer and add it to the turns. One that failed takes its question back, not its images."""
        if self._last is None:
            return
        (reply, thread), self._last = self._last, None
        thread.join()
        text = None
        with suppress(Exception):  # the caller has it from the reply
            text = str(reply)
        if text is None or not self._is_turn_kept:
            shown = sum(part["type"] != "text" for part in self._messages.pop()["content"])
            self._shown = [*self._images[len(self._images) - shown :], *self._shown]
            self._images = self._images[: len(self._images) - shown]
            return
        self._kept = reply.report.items
        self._messages.append({"role": "assistant", "content": [{"type": "text", "text": text}]})
