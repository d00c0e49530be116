"""The kept visual tokens, drawn over the picture, its tiles or a clip's frames: `draw`, and how that is saved."""

from foveate.viz.file import FORMATS, check_overlay, save
from foveate.viz.overlay import draw
from foveate.viz.seen import seen_part

__all__ = ["FORMATS", "check_overlay", "draw", "save", "seen_part"]
