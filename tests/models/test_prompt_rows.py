"""Which tiles are one image, by the marks that the stock processors write, and by nothing else."""

import re

import numpy as np
import pytest
import torch
import transformers

from foveate.models import prompt_rows as rules

PATCH = "<patch>"
CONTROLS = 300  # from here on


class Words:
    """Ids of a text: marks in angle brackets and single characters, the first from 300 on, in order of appearance."""

    def __init__(self):
        self.ids = {}

    def __call__(self, text):
        parts = re.findall(r"<[^<>\n]+>|[\s\S]", text)
        return [self.ids.setdefault(part, len(self.ids) + (CONTROLS if part[0] == "<" else 10)) for part in parts]

    def row(self, text):
        ids = torch.tensor([self(text)])
        (row,) = rules.read_rows(ids, ids == self(PATCH)[0])
        return row


def is_control(token):
    return token >= CONTROLS


def made_by(kind, grids, **attributes):
    """What a stock processor writes for images of these rows and columns, by its own method, one text each."""
    processor = object.__new__(getattr(transformers, kind))
    vars(processor).update(attributes)
    pixels = np.zeros((1, 3, 4, 4))
    counts = [rows * columns for rows, columns in grids]
    split = [grid if grid != (1, 1) or kind == "GraniteDoclingProcessor" else (0, 0) for grid in grids]
    values = {
        "rows": [[rows for rows, _ in split]], "cols": [[columns for _, columns in split]],
        "num_patches": [count + (count > 1) for count in counts], "aspect_ratios": grids, "pixel_values": [pixels],
        "grids": torch.tensor(grids),
    }  # fmt: skip
    return [processor.replace_image_token(values, n).replace("<image>", PATCH) for n in range(len(grids))]


def idefics3(grids):
    names = {"fake_image_token": "<fake>", "global_image_tag": "<global>", "image_token": PATCH, "image_seq_len": 4}
    return made_by("Idefics3Processor", grids, **names)


def granite(grids):
    names = {"fake_image_token": "<fake>", "global_image_tag": "<global>", "image_token": PATCH, "image_seq_len": 4}
    return made_by("GraniteDoclingProcessor", grids, **names)


def aya(grids):
    names = {
        "img_size": 4, "patch_size": 2, "start_of_img_token": "<start>", "end_of_img_token": "<end>",
        "img_patch_token": PATCH, "tile_token": "TILE", "tile_global_token": "TILE_GLOBAL",
    }  # fmt: skip
    return made_by("AyaVisionProcessor", grids, **names)


def cohere2(grids):
    names = {"patch_size": 2, "image_token": PATCH, "boi_token": "<start>", "eoi_token": "<end>"}
    return made_by("Cohere2VisionProcessor", grids, **names, img_line_break_token="<break>")


def llama4(grids):
    texts = made_by("Llama4Processor", grids, patch_size=1, downsample_ratio=4)
    return [text.replace("<|image|>", "<whole>").replace("<|patch|>", PATCH) for text in texts]


def lfm2(grids, marked=True):
    processor = object.__new__(transformers.Lfm2VlProcessor)
    names = {"start": "<start>", "end": "<end>", "thumbnail": "<thumbnail>"}
    vars(processor).update({f"image_{name}_token": mark for name, mark in names.items()} | {"image_token": PATCH})
    return [processor._build_image_tokens(*grid, 4, 6, True, marked) for grid in grids]


def ovis2(grids):
    texts = made_by("Ovis2Processor", grids, image_seq_length=4)
    return [text.replace("<IMG_ATOM>", PATCH) for text in texts]


def minicpm(grids):
    processor = object.__new__(transformers.MiniCPMV4_6Processor)
    names = ("image_start", "image_end", "slice_start", "slice_end")
    vars(processor).update(
        {f"{name}_token": f"<{name}>" for name in names} | {"image_token": PATCH, "slice_mode": True}
    )
    grids = [grid if grid != (1, 1) else (0, 0) for grid in grids]
    counts = [rows * columns + 1 for rows, columns in grids]
    values = {
        "grids": torch.tensor(grids), "num_patches_per_image": counts,
        "target_sizes": torch.tensor([(4, 4 * (n % 2 + 1)) for n in range(sum(counts))]),
    }  # fmt: skip
    return [processor.replace_image_token(values, n, image_token_divisor=4) for n in range(len(grids))]


MARKED = {
    "idefics3": (idefics3, lambda words, row: rules.starts_after_overview(row)),
    "granite_docling": (granite, lambda words, row: rules.starts_at_first_tile(row)),
    "aya_vision": (aya, lambda words, row: rules.starts_between_ends(row, is_control)),
    "cohere2_vision": (cohere2, lambda words, row: rules.starts_after_breaks(row, is_control)),
    "lfm2_vl": (lfm2, lambda words, row: rules.starts_between_ends(row, is_control)),
    "llama4": (llama4, lambda words, row: rules.starts_with(row, words("<|image_start|>")[0])),
    "ovis2": (ovis2, lambda words, row: rules.starts_with(row, words("<IMG_START>")[0])),
    "minicpmv4_6": (minicpm, lambda words, row: rules.starts_with_kind(row)),
}
GRIDS = ([(2, 2), (1, 1), (3, 4), (1, 2), (2, 1)], [(1, 1), (1, 1), (1, 1)], [(1, 1), (2, 3)], [(1, 2)] * 3, [(9, 1)])
TEXTS = ("", " ", "\n", " and then this one, which is longer than a mark: ", "abc")


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("grids", GRIDS, ids=str)
@pytest.mark.parametrize("between", TEXTS)
def test_every_image_is_found(name, grids, between):
    write, rule = MARKED[name]
    images = write(grids)
    words = Words()
    words(PATCH)
    row = words.row(f"<bos>user: {between.join(images)} what color is the star<eos>assistant: ")
    expected = [n == 0 for image in images for n in range(len(re.findall(f"(?:{PATCH})+", image)))]
    starts = [True] if len(row.runs) == 1 else rule(words, row)
    assert starts == expected
    alone = words.row(f"<bos>{between.join(images)}<eos>")  # nothing but images, between special ids
    assert ([True] if len(alone.runs) == 1 else rule(words, alone)) == expected


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("text", [
    "a{0}b{0}c{0}d", "{0}b{0}b{0}", "<bos>{0}b{0}b{0}b<eos>", "<bos>hello {0} and this one here {0} what color<eos>",
    "well {0} hello {0} hello {0} hello",
])  # fmt: skip
def test_prompts_without_marks_tell_nothing(name, text):
    words = Words()
    words(PATCH)
    row = words.row(text.format(PATCH * 4))
    assert MARKED[name][1](words, row) is None


def test_a_row_knows_its_runs():
    ids = torch.tensor([[0, 7, 7, 1, 7, 2], [3, 4, 5, 6, 8, 9], [7, 1, 1, 1, 7, 7]])
    first, last = rules.read_rows(ids, ids == 7)
    assert (first.row, first.runs, first.first) == (0, [(1, 3), (4, 5)], 0)
    assert (last.row, last.runs, last.first) == (2, [(0, 1), (4, 6)], 2)
    assert (first.before(0), first.before(1), first.after(0), first.after(1)) == ([0], [1], [1], [2])
    assert last.before(0) == []
    assert last.after(last.last()) == []


def test_lfm2_without_marks_is_one_run():
    words = Words()
    words(PATCH)
    row = words.row("a" + "".join(lfm2([(1, 2), (1, 1)], marked=False)) + "b")
    assert len(row.runs) == 1


# -- rows that no processor writes -------------------------------------------------------------------------------------

P = PATCH * 2
REFUSED = {
    # two tiles of one mark in an image, in the middle and at its end
    "idefics3": [
        f"<fake><a>{P}<fake><a>{P}<fake><global>{P}<fake>",
        f"<fake><a>{P}<fake><b>{P}<fake><a>{P}<fake><global>{P}<fake>",
    ],
    "granite_docling": [
        f"<fake><a>{P}<fake><b>{P}<fake><b>{P}<fake>", f"<fake><a>{P}<fake><b>{P}<fake><c>{P}<fake><b>{P}<fake>",
        f"<fake><a>{P}<fake><b>{P}", f"<fake><a>{P}<fake><b>{P}text",  # no fence behind the last image's tiles
        f"<fake><a>{P}<fake><b>{P} <fake><a>{P}",  # nor behind those of an earlier one
        f"<fake><a>{P}<fake><b>{P}<fake>\n<a>{P}", f"<a>{P}<fake><b>{P}<fake>",  # no fence before a tile
    ],
    "aya_vision": [
        f"a{P}<end>a{P}<end>", f"a{P}a{P}<end>",  # no mark but a word before images
        f"<start>{P}<end>{P}<end>", f"<start>{P}<end><begin>{P}<end>",  # no mark that all share
        f"<end>{P}<end><end>{P}<end>",  # the mark of the end is none of the start
        f"<start>{P}a<start>{P}a", f"<start>{P}<start>{P}",  # no mark at the end
        f"<start>{P}{'abcdefghijklmnopq'}{P}<end>", f"<start>{P}<end><start>{P}{'abcdefghijklmnopq'}{P}<end>",  # 17 ids
    ],
    "cohere2_vision": [
        f"<start>{P}<break>{P}<break><end><begin>{P}<break><end>", f"<start>{P}<break>{P}<line><end>",
        f"<start>{P}<break><end><start>{P}<break><stop>", f"s{P}<break>{P}<break><end>", f"<start>{P}b{P}b<end>",
        f"<start>{P}<break>{P}<break>", f"<start>{P}<break>{P}", f"{P}<break>{P}<break><end>",
        f"<start>{P}<break>{P}<break>e",
    ],
    "minicpmv4_6": [
        f"<i>{P}</i><s>{P}</s><t>{P}</t>", f"<i>{P}</i><s>{P}</i>", f"<i>{P}</i><i>{P}</s>", f"<i>{P}<i>{P}</i>",
        f"<i>{P}</i><s>{P}<i>", f"<i>{P}</i><s>{P}</s>ab<s>{P}</s>", f"{P}<i>{P}<s>", f"<i>{P}</i><s>{P}",
    ],
    "llama4": [f"{P}<|image_start|>{P}", f"a{P}b{P}"],
}  # fmt: skip
ACCEPTED = {
    "idefics3": [
        (f"<fake><a>{P}<fake><global>{P}<fake><fake><a>{P}<fake><global>{P}<fake>", [1, 0, 1, 0]),
        (f"<fake><global>{P}<fake><fake><global>{P}<fake>", [1, 1]),
    ],
    "granite_docling": [
        (f"<fake><a>{P}<fake><b>{P}<fake>and<fake><a>{P}", [1, 0, 1]), (f"<fake><a>{P}<fake><a>{P}", [1, 1]),
        (f"<fake><a>{P}<fake><b>{P}<fake>", [1, 0]),
    ],
    "aya_vision": [
        (f"<start>{P}{'abcdefghijklmnop'}{P}<end>", [1, 0]),  # 16 ids between two tiles
        (f"<start>{P}<x>{P}<end>{'abcdefghijklmnopqrst'}<start>{P}<end>", [1, 0, 1]),
        (f"<start><t>{P}<end><u><start>abc{P}<end>", [1, 1]),
    ],
    "cohere2_vision": [
        (f"<mark>{P}<break>{P}<break><mark>{P}<break><mark>", [1, 0, 1]),
        (f"<start>{P}<break>{P}<break><end><start>{P}<break><end>", [1, 0, 1]),
    ],
    "minicpmv4_6": [
        (f"<i>{P}</i><s>{P}</s>\n<s>{P}</s><i>{P}</i>", [1, 0, 0, 1]), (f"<i>{P}</i>and<i>{P}</i>", [1, 1]),
    ],
    "llama4": [(f"<|image_start|>a{P}b{P}<|image_start|>{P}", [1, 0, 1])],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_marks_that_contradict_themselves_tell_nothing(name):
    for text in REFUSED[name]:
        words = Words()
        words(PATCH)
        assert MARKED[name][1](words, words.row(text)) is None, text


@pytest.mark.parametrize(
    ("name", "text", "starts"), [(name, *case) for name, cases in ACCEPTED.items() for case in cases]
)
def test_marks_alone_tell_where_images_start(name, text, starts):
    words = Words()
    words(PATCH)
    assert MARKED[name][1](words, words.row(text)) == [bool(start) for start in starts]
