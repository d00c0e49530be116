"""The frames of a stream, encoded as they come and remembered in part, and the prompt in which they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foveate.errors import InputError, describe
from foveate.method import Method
from foveate.method.checks import is_number
from foveate.method.memory import FrameTokens, StreamSettings, TokenMemory
from foveate.method.scoring import score_peaked_tokens
from foveate.models import family_of
from foveate.models.inputs import drop_raw
from foveate.models.kept import regroup_output
from foveate.pipeline.encode import Encoded, Marks
from foveate.pipeline.join import count_bytes, join_images
from foveate.runtime.conversation import ChatMessage, apply_template
from foveate.runtime.image_cache import ImageCache, LazyImage, PreparedPrompt
from foveate.runtime.replay import join_processed, replay_images
from foveate.runtime.single_image import SingleImage, check_beside, encode_alone

REPEATS = 0.98  # cosine above which a token shows what its place did in the frame before: a camera's noise changes less
LEAST = 8  # tokens that a frame of a prompt has on average: its time takes about as many


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a stream, without its tokens.

    Args:
        at: Its time in seconds.
        turn: The number of user turns before it.
        after: The number of images that were shown before it.
        size: Width and height in pixels.
        single: The frame as the processor and the encoder returned it, with entries without tokens.
        sizes: The number of tokens of each entry.
    """

    at: float
    turn: int
    after: int
    size: tuple[int, int]
    single: SingleImage
    sizes: tuple[int, ...]


class Stream:
    """Frames with their times: what is remembered of them, and how a question is asked about it.

    Args:
        cache: The encoded images of the conversation. The stream shares its model.
        method: What prunes the prompts: frames keep what it reads of the encoder.
        settings: How much is remembered.
    """

    def __init__(self, cache: ImageCache, method: str | Method, settings: StreamSettings) -> None:
        self._cache, self._method = cache, method
        self._memory = TokenMemory(settings, REPEATS)
        self._last: float | None = None
        self._size: tuple[int, int] | None = None

    @property
    def times(self) -> tuple[float, ...]:
        """The times, in seconds, of the frames of which something is remembered."""
        return tuple(each.frame.at for each in self._memory.frames)

    @property
    def tokens(self) -> int:
        """How many visual tokens are remembered."""
        return self._memory.count

    @property
    def bytes(self) -> int:
        """The bytes of all that is remembered."""
        records: int = sum(each.frame.single.processed.bytes for each in self._memory.frames)
        return self._memory.count_bytes() + records

    def check_images(self, shown: Sequence[LazyImage], frame: Image.Image | None = None) -> None:
        """Raise `InputError` where the processor makes something else of these images beside a frame than alone.

        The frame is the last one if none is passed; without any there is nothing to check.
        """
        own = self._size if frame is None else frame.size
        if own is None:
            return
        for size in {each.open().size for each in shown} - {own}:
            check_beside(self._cache.loaded, [Image.new("RGB", own), Image.new("RGB", size)])

    def add(self, image: Image.Image, at: Any, turn: int, shown: Sequence[LazyImage]) -> None:
        """Encode a frame and remember it in the place of what it repeats.

        Args:
            image: The frame.
            at: Its time in seconds.
            turn: The number of user turns before it.
            shown: The images that were shown before it.

        Raises:
            InputError: `at` is no number of seconds above the last one, or the model cannot read frames one by one.
            KeepError: The frame has more tokens than the memory.
        """
        self._check_time(at)
        if self._size != image.size:
            before = image if self._size is None else Image.new("RGB", self._size)
            check_beside(self._cache.loaded, [before, image])
        if self._size is None:
            self.check_images(shown, image)
        single = encode_alone(self._cache.loaded, image, self._method)
        levels, sizes = single.levels, tuple(len(entry) for entry in single.levels[0])
        rows = {"embeds": torch.cat(list(levels[0]))}
        rows |= {f"level {n}": torch.cat(list(level)) for n, level in enumerate(levels[1:], 1)}
        for name in single.encoded.extras[0] if single.encoded.extras else ():
            rows[name] = torch.cat([extras[name] for extras in single.encoded.extras])
        hollow = replace(single, encoded=Encoded({"image": regroup_output(single.encoded.outputs["image"], [])}))
        frame = Frame(float(at), turn, len(shown), image.size, hollow, sizes)
        self._memory.add(frame, rows, single.grid, is_same_view=self._size == image.size)
        self._last, self._size = float(at), image.size

    def prepare(
        self, messages: Sequence[ChatMessage], images: Sequence[LazyImage], limit: int | None
    ) -> PreparedPrompt:
        """The inputs of a conversation with its images and frames, and what these were encoded to.

        Args:
            messages: The turns, with a part for each image; the last one ends in the question.
            images: The images, in order.
            limit: How many visual tokens the prompt may have.
        """
        loaded, family = self._cache.loaded, family_of(self._cache.loaded.model)
        chosen = self._choose_frames(messages[-1]["content"][-1]["text"], len(images), limit)
        messages, shown = _weave(messages, images, chosen)
        known, parts = 0, list[SingleImage]()
        for each in shown:
            if isinstance(each, FrameTokens):
                parts.append(_restore(each))
            else:
                part, was_known = self._encode_image(each)
                known, parts = known + was_known, [*parts, part]
        processed = join_processed([part.processed for part in parts])
        inputs = replay_images(loaded, apply_template(loaded, messages), processed)
        encoded = join_images(family, [part.encoded for part in parts])
        marks: Marks = {"image": [{}] * sum(len(part.levels[0]) for part in parts)}
        times = tuple(each.frame.at for each in chosen)
        return PreparedPrompt(drop_raw(family, inputs), encoded, known + len(chosen), marks=marks, times=times)

    def clear(self) -> None:
        """Forget everything."""
        self._memory.clear()
        self._last = self._size = None

    def _check_time(self, at: Any) -> None:
        if not is_number(at) or not math.isfinite(at):
            raise InputError(f"at={describe(at)} is no time: give a finite number of seconds, such as 12.5.")
        if self._last is not None and at <= self._last:
            raise InputError(
                f"A frame at {format_time(at)} came after one at {format_time(self._last)}: show frames in order of "
                "time, or open a new session."
            )

    def _choose_frames(self, question: str, images: int, limit: int | None) -> list[FrameTokens]:
        """The frames for this question: all, or the newest and those with the most relevant tokens."""
        frames = self._memory.frames
        most = len(frames) if limit is None else max(1, limit // LEAST - images)
        if len(frames) <= most:
            return frames
        ids = self._cache.loaded.processor.tokenizer(question, add_special_tokens=False, return_tensors="pt")
        table, embeds = self._cache.loaded.model.get_input_embeddings(), [each.rows["embeds"] for each in frames]
        words = table(ids["input_ids"][0].to(embeds[0].device)).to(embeds[0])
        words = words if family_of(self._cache.loaded.model).traits.shared_space else words[:0]
        parts = score_peaked_tokens(torch.cat(embeds), words).split([len(own) for own in embeds])
        best = [float(part.amax()) for part in parts[:-1]]
        order = sorted(range(len(best)), key=lambda number: (best[number], number), reverse=True)
        return [frames[number] for number in sorted([*order[: most - 1], len(frames) - 1])]

    def _encode_image(self, image: LazyImage) -> tuple[SingleImage, bool]:
        """An image that was shown without a time, and whether it was known."""

        def make() -> SingleImage:
            return encode_alone(self._cache.loaded, image.open(), self._method)

        key = ("alone", image.key, str(self._method))
        return self._cache.remember(key, make, lambda single: count_bytes(single.encoded) + single.processed.bytes)


def format_time(at: float) -> str:
    """The time as prompts and messages have it: "12.5 s"."""
    return f"{at:.3f}".rstrip("0").rstrip(".") + " s"


def _weave(
    messages: Sequence[ChatMessage], images: Sequence[LazyImage], frames: Sequence[FrameTokens]
) -> tuple[list[ChatMessage], list[LazyImage | FrameTokens]]:
    """The turns with a part for each frame where it came, and all images and frames in order."""
    last = sum(message["role"] == "user" for message in messages) - 1
    waiting, shown, turn = list(frames), list[LazyImage | FrameTokens](), -1
    left, woven = list(images), list[ChatMessage]()
    for message in messages:
        turn += message["role"] == "user"
        content = list[dict[str, str]]()
        for part in message["content"]:
            is_image, after = part["type"] == "image", len(images) - len(left)
            while message["role"] == "user" and waiting and _stands_here(waiting[0].frame, turn, last, after, is_image):
                label = [{"type": "text", "text": f"at {format_time(waiting[0].frame.at)}:"}] if len(frames) > 1 else []
                content += [*label, {"type": "image"}]
                shown.append(waiting.pop(0))
            content.append(part)
            if is_image:
                shown.append(left.pop(0))
        woven.append({**message, "content": content})
    return woven, shown


def _stands_here(frame: Frame, turn: int, last: int, after: int, is_image: bool) -> bool:
    """Whether a frame stands in this turn, before an image or before the question."""
    return min(frame.turn, last) <= turn and (not is_image or frame.after <= after)


def _restore(part: FrameTokens) -> SingleImage:
    """The frame with the tokens that are remembered, and NaN for the others."""
    frame: Frame = part.frame
    total = sum(frame.sizes)

    def spread(rows: Tensor, value: float) -> list[Tensor]:
        whole = rows.new_full((total, *rows.shape[1:]), value)
        return list(whole.index_copy(0, part.indices, rows).split(frame.sizes))

    deep = [spread(rows, math.nan) for name, rows in part.rows.items() if name.startswith("level ")]
    own = [name for name in part.rows if name != "embeds" and not name.startswith("level ")]
    spreads = {name: spread(part.rows[name], 0.0) for name in own}
    extras = tuple({name: spreads[name][n] for name in own} for n in range(len(frame.sizes)))
    entries = spread(part.rows["embeds"], math.nan)
    hollow = frame.single.encoded.outputs["image"]
    output = regroup_output(hollow, entries, **({"deepstack_features": deep} if deep else {}))
    return replace(frame.single, encoded=Encoded({"image": output}, extras))
