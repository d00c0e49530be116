"""Questions about clips, alone or beside images, as the model's inputs."""

from collections.abc import Sequence
from typing import Any

from foveate.runtime.conversation import apply_template
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.media import check_reader, process_shown, read_shown


def check_clips(loaded: LoadedModel) -> None:
    """Raise a `FoveateError` where the model reads no clips."""
    check_reader(loaded, "video", "give frames of it in 'images'")


def make_media_inputs(loaded: LoadedModel, shown: Sequence[Sequence[Any]], questions: Sequence[str]) -> Any:
    """The inputs for one question about some images and clips, in this order.

    One row: processors differ in what they take of several rows with different numbers of clips.
    """
    ((values,), (question,)) = shown, questions
    items = [read_shown(loaded, value) for value in values]
    content = [*({"type": item.modality} for item in items), {"type": "text", "text": question}]
    return process_shown(loaded, apply_template(loaded, [{"role": "user", "content": content}]), items)
