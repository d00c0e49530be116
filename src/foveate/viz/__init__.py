"""`draw` shows the kept visual tokens over an image, its tiles or the frames of a video; `save` writes the result."""

from foveate.viz.file import FORMATS, check_overlay, save
from foveate.viz.overlay import draw
from foveate.viz.region import visible_region

__all__ = ["FORMATS", "check_overlay", "draw", "save", "visible_region"]
