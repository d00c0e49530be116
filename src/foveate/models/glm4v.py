"""GLM-4V: images of any size, M-RoPE, and videos whose frames are spelled as images between two ids of their own."""

from foveate.models.patches import Patches
from foveate.models.shared_placeholders import InClips, Together


class Frames(Patches):
    """A video's frames as its processor writes them."""


class Glm4v(Together, Frames):
    """GLM-4.1V, GLM-4.5V, GLM-4.6V, GLM-OCR; M-RoPE, dynamic resolution, frames with timestamps."""


class Glm5Next(InClips, Frames):
    """GLM-5.3; no positions, linear attention, sparse attention over pools, frames with timestamps.

    The state of the linear layers runs over the kept tokens, and the pools of the sparse attention's indexer hold
    neighbours among them.
    """
