"""The strip that explains the marks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from foveate import draw
from foveate.models.visual_input import Tile, tile_squares
from foveate.viz.legend import list_entries
from foveate.viz.paint import AMBER, HEAT, SKY
from foveate.viz.panels import make_panels
from viz.drawing import WHITE, draw_bare, explained, pixels, plain
from viz.golden.write import make_item, make_report, mark_overview


def draw_one(image, report):
    return draw(image, report, original=False)


def test_the_legend_counts_and_wraps():
    wide, narrow = (draw_one(Image.new("RGB", size), plain([1, 2])) for size in ((900, 600), (9, 90)))
    assert wide.size[0] == 900
    assert narrow.size[0] == 360
    why = explained([1, 2, 5], [True, False, True])
    out = draw_one(WHITE, why)
    strip = pixels(out.crop((0, draw_bare(WHITE, why).height, *out.size)))
    assert (strip[-1] == 255).all()
    assert ((strip == AMBER).all(-1).sum(), (strip == SKY).all(-1).sum()) > (8, 8)
    assert (strip == 0).all(-1).sum() > 100  # text
    assert (strip == HEAT).all(-1).sum() == 0 < (np.abs(strip - HEAT).max(-1) < 60).sum()  # the end of the ramp
    counts = {draw_one(WHITE, plain(range(n))).tobytes() for n in (1, 2, 3)}
    assert len(counts) == 3


@pytest.mark.parametrize("prompt_aware", [True, False])
def test_relevant_is_said_only_of_methods_that_read_the_question(prompt_aware):
    report = replace(explained([1, 2], [True, False]), prompt_aware=prompt_aware)
    entries = list_entries(make_panels([WHITE], report, None, None)[0], prompt_aware=prompt_aware)
    texts = " ".join(text for _, text in entries)
    assert ("relevan" in texts) == prompt_aware
    assert ("without the question" in texts) != prompt_aware


def test_the_legend_says_no_more_than_there_is():
    def read_legend(report):
        return [text for _, text in list_entries(make_panels([WHITE], report, None, None)[0])]

    assert read_legend(plain([1, 2])) == ["kept 2 of 6", "dropped 4 of 6"]
    assert read_legend(plain([])) == ["kept 0 of 6", "dropped 6 of 6"]
    marks = ["core 1: the most relevant to the question", "complement 1: different from the rest", "dropped 4 of 6"]
    assert read_legend(explained([1, 2], [True, False])) == [*marks, "map: relevance to the question"]
    nothing_dropped = explained([*range(6)], [False] * 6)
    assert read_legend(nothing_dropped)[1:] == [
        "complement 6: different from the rest",
        "map: relevance to the question",
    ]
    ended_rows = make_report(make_item([0, 2, 5], (Tile(0, 2, 2, 3),), total=6))
    assert read_legend(ended_rows) == ["kept 1 of 4", "dropped 3 of 4"]  # ends of rows do not count


def test_the_legend_counts_what_was_not_encoded():
    tiles = mark_overview(tile_squares(3, 2), -1)
    absent = torch.tensor([False] * 4 + [True] * 4 + [False] * 4)
    item = replace(make_item([1, 9], tiles, relevance=[0.1] * 4 + [torch.nan] * 4 + [0.9] * 4), absent=absent)
    wide = Image.new("RGB", (120, 60), "white")

    def read_legend(item):
        return [text for _, text in list_entries(make_panels([wide], make_report(item), None, None)[0])]

    marks = ["not encoded 4 of 12: in parts that were left out", "map: relevance to the question"]
    assert read_legend(item) == ["kept 2 of 12", "dropped 6 of 12", *marks]
    looked = replace(item, look=torch.tensor([0, 8]), attention=torch.rand(12))
    assert read_legend(looked)[3] == marks[0]  # its panels have the same tokens twice
    assert not any("encoded" in text for text in read_legend(replace(item, absent=None)))


def test_the_legend_is_readable_at_512_pixels():
    out = draw_one(WHITE, plain([1, 2, 5]))
    ink = pixels(out.convert("L"))[draw_bare(WHITE, plain([0])).height :]
    lines = np.flatnonzero(np.diff((ink[:, 60:] < 100).any(1).astype(int)))
    assert out.width == 512
    assert np.diff(lines)[::2].min() >= 9  # pixels from the top of an ascender to the base line, at least
    assert ink[:, -4:].min() > 200  # no word runs off the edge
