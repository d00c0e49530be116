"""Questions about clips, alone or beside images, as the model's inputs."""

from collections.abc import Sequence
from typing import Any

from foveate.runtime.loaded import LoadedModel
from foveate.runtime.media import check_reader, make_seen_inputs


def check_clips(loaded: LoadedModel) -> None:
    """Raise a `FoveateError` where the model reads no clips."""
    check_reader(loaded, "video", "give frames of it in 'images'")


def make_media_inputs(loaded: LoadedModel, shown: Sequence[Sequence[Any]], questions: Sequence[str]) -> Any:
    """The inputs for one question about some images and clips, in this order.

    One row: processors differ in what they take of several rows with different numbers of clips.
    """
    ((values,), (question,)) = shown, questions
    return make_seen_inputs(loaded, values, question)
