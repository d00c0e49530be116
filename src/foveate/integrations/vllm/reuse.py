"""What the tokens of an image or clip are chosen for: its question, or the picture alone, so that questions share."""

import threading
from collections.abc import Sequence

from prometheus_client import Counter

from foveate.runtime.byte_cache import ByteCache

KNOWN_BYTES = 2**24  # room for the first questions of about 20,000 images
ENTRY_BYTES, TOKEN_BYTES = 400, 36  # of an image, and of each token of its question
CHOICES = Counter(
    "foveate_choices",
    "Images and clips by what their tokens were chosen for: a question, the picture alone, or all of them (whole).",
    ["by"],
)
"""In vLLM's own /metrics, since its server shows the default registry of prometheus_client."""


class FirstQuestions:
    """The question with which each image came first, for `reuse="auto"`; the images seen last are known."""

    def __init__(self, max_bytes: int = KNOWN_BYTES) -> None:
        self._known = ByteCache(max_bytes)
        self._lock = threading.Lock()

    def choose(self, image: str, question: Sequence[int]) -> Sequence[int]:
        """The question that tokens are chosen for: this one, or none where the image came with another one first.

        Args:
            image: A hash of the image's content.
            question: The token ids of the question.
        """
        with self._lock:
            first = self._known.get(image)
        return question if first in (None, tuple(question)) else ()

    def remember(self, image: str, question: Sequence[int]) -> None:
        """The image has been processed with this question, empty where it had none."""
        if question:
            with self._lock:
                if self._known.get(image) is None:
                    self._known.put(image, tuple(question), ENTRY_BYTES + TOKEN_BYTES * len(question))


def count_choices(questions: Sequence[Sequence[int]], *, whole: bool) -> None:
    """Add the images (or clips) of a request, with the question that each is pruned for, to the metrics."""
    for question in questions:
        CHOICES.labels("whole" if whole else "question" if question else "picture").inc()
