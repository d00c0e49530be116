import pytest

from foveate.apps.bench.model import open_model
from foveate.apps.bench.settings import format_size, parse_batches, parse_budgets, parse_sizes
from foveate.apps.results import make_folder
from foveate.errors import FoveateError, InputError
from foveate.runtime.load_options import LoadOptions


def test_budgets():
    budgets = parse_budgets("divprune, zspaprune(core=0.6)", "1.0,0.1,64,2")
    assert [(name, keep) for name, _, keep in budgets] == [
        (name, keep) for keep in (0.1, 64, 2) for name in ("divprune", "zspaprune(core=0.6)")
    ]
    assert budgets[1][1].core == 0.6


@pytest.mark.parametrize(
    ("methods", "keeps", "text"),
    [
        ("foveate", "1.0", "prunes nothing"),
        ("foveate", "", "is no number"),
        ("foveate", "0.1,many", "is no number"),
        ("foveate", "0", "keeps no token"),
        ("foveate", "0.1,0.1", "twice"),
        ("fovate", "0.1", "Did you mean 'foveate'"),
        ("foveate,fastv(layer=1)", "0.1", "bench methods that prune the inputs"),
    ],
)
def test_bad_budgets(methods, keeps, text):
    with pytest.raises(FoveateError, match=text):
        parse_budgets(methods, keeps)


def test_sizes_and_batches():
    assert parse_sizes("336, 1280X720") == [(336, 336), (720, 1280)]
    assert format_size((720, 1280)) == "1280x720"
    assert parse_batches("1, 4") == [1, 4]


@pytest.mark.parametrize("text", ["", "0", "-1", "3.5", "1x", "x2", "1x2x3", "big", "336,336", "²"])
def test_bad_sizes(text):
    with pytest.raises(InputError, match=r"--image-size"):
        parse_sizes(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "one", "1,,2", "2,2"])
def test_bad_batches(text):
    with pytest.raises(InputError, match=r"--batch"):
        parse_batches(text)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"give another folder"):
        make_folder(tmp_path / "file")


def test_options_for_shapes_alone():
    with pytest.raises(InputError, match=r"--layers is for shapes .*llava-1.5-7b"):
        open_model("bundled", layers=2)
    with pytest.raises(InputError, match=r"--dtype 'int8' is unknown: give float32"):
        open_model("llava-1.5-7b", loading=LoadOptions(dtype="int8"))


def test_options_for_checkpoints_alone():
    with pytest.raises(InputError, match=r"quantize is for checkpoints; llava-1.5-7b has random weights"):
        open_model("llava-1.5-7b", loading=LoadOptions(quantize="8bit"))
    assert open_model("bundled", loading=LoadOptions(dtype="bfloat16")).to_record()["dtype"] == "bfloat16"
