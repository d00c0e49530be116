"""Labels of the visual tokens of clips and screens: what happens at a place, and since when.

A head on the language model's second layer learns them beside the answers. Without it the tokens of one moment are not
compared with those before, and no question about order or number is learned (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from foveate.models.sequence import IGNORED_LABEL
from foveate.world.clips import MOMENTS, STANDS, WAYS, Clip, Track
from foveate.world.scenes import COLORS, SHAPES, SIGN
from foveate.world.screens import Screens

CLASSES = {
    "event": 5,
    "since": MOMENTS,
    "spans": 4,
    "way": len(WAYS) + 1,
    "time": MOMENTS,
    "form before": len(SHAPES) + 1,
    "color before": len(COLORS) + 1,
}
"""What is labelled, with the number of classes. The event is 0 nothing, 1 as before, 2 comes, 3 goes, 4 gone. A button
has the form and the colour of the one that was pressed before it, where it is pressed: 0 nothing."""
CELLS = 6  # a frame has CELLS x CELLS tokens

MomentLabels = dict[str, Tensor]
"""A label for every token, by name; `IGNORED_LABEL` for none."""


def make_clip_labels(clip: Clip) -> MomentLabels:
    """Label the tokens of all moments of a clip, in the order of the prompt."""
    labels = _make_empty(MOMENTS)
    for track in clip.tracks:
        for moment in range(MOMENTS):
            values = _describe_sign(track, moment) if track.thing.form == SIGN else _describe_track(track, moment)
            if values is not None:
                place = next(p for p in reversed(track.places[: moment + 1]) if p is not None)
                _write(labels, moment, track, place, {**values, "time": moment})
    return {name: label.flatten() for name, label in labels.items()}


def make_screen_labels(screens: Screens) -> MomentLabels:
    """Label the tokens of all screenshots: which button is lit, and when each that was pressed by then was pressed."""
    shots = len(screens.pressed)
    labels = _make_empty(shots)
    for number, track in enumerate(screens.buttons):
        step = screens.pressed.index(number) if number in screens.pressed else shots
        for shot in range(shots):
            values = {"event": 2 if shot == step else 1, "spans": int(step <= shot), "time": shot}
            values |= {"since": step} if step <= shot else {}
            if step == shot:
                thing = screens.buttons[screens.pressed[step - 1]].thing if step else None
                values["form before"] = 1 + list(SHAPES).index(thing.form) if thing else 0
                values["color before"] = 1 + list(COLORS).index(thing.color) if thing else 0
            _write(labels, shot, track, track.places[shot], values)
    return {name: label.flatten() for name, label in labels.items()}


def make_no_labels(count: int) -> MomentLabels:
    """Label nothing of an image with so many tokens."""
    return {name: torch.full((count,), IGNORED_LABEL) for name in CLASSES}


def _make_empty(moments: int) -> MomentLabels:
    size = (moments, CELLS, CELLS)
    return {name: torch.full(size, 0 if name == "event" else IGNORED_LABEL) for name in CLASSES}


def _describe_track(track: Track, moment: int) -> dict[str, int] | None:
    """What can be known of an object by this moment; None before it comes."""
    if moment < track.start:
        return None
    there = [place is not None for place in track.places[: moment + 1]]
    spans = sum(now and not before for now, before in zip(there, [False, *there], strict=False))
    before = there[-2] if moment else there[-1]
    event = (1 if before else 2) if there[-1] else (3 if before else 4)
    way = {"way": [*WAYS, STANDS].index(track.way)} if moment else {}
    return {"event": event, "since": track.start, "spans": spans, **way}


def _describe_sign(track: Track, moment: int) -> dict[str, int]:
    since = track.change if moment >= track.change else 0
    return {"event": 2 if moment == track.change else 1, "since": since, "spans": 1 + (since > 0)}


def _write(
    labels: MomentLabels, moment: int, track: Track, place: tuple[float, float] | None, values: Mapping[str, int]
) -> None:
    """Label the tokens whose middle is on the object."""
    if place is None:
        return
    middles = (torch.arange(CELLS) + 0.5) / CELLS
    rows = (middles - place[1]).abs() < track.thing.ry
    columns = (middles - place[0]).abs() < track.thing.rx
    for name, value in values.items():
        labels[name][moment][rows[:, None] & columns] = value
