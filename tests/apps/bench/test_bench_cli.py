"""`foveate bench`, from the command line to the files that it writes."""

import json

import pytest
import torch
from PIL import Image

from apps.bench.cases import SMALL
from foveate.apps import cli
from foveate.apps.bench import shapes
from foveate.apps.results import open_folder
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import load
from tiny import tiny_folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return str(tiny_folder("llava", tmp_path_factory.mktemp("llava")))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return str(tiny_folder("qwen2_5_vl", tmp_path_factory.mktemp("qwen")))


@pytest.fixture
def run(capsys, tmp_path):
    def call(*arguments, out=tmp_path / "results"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["bench", "--out", str(out), "--rounds", "1", "--new-tokens", "2", *map(str, arguments)])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


def refusal(result):
    code, out, err = result
    assert (code, out) == (2, ""), err
    assert err.startswith("foveate: ")
    assert err.count("\n") == 1
    return err


def test_targets_are_shown_on_request(run, llava):
    options = ("--model", llava, "--keep", "0.25", "--no-plot")
    assert "limit |" not in (plain := run(*options)[1])
    assert "target" not in plain.lower()
    assert "NOT MET" not in plain
    assert "KV bytes, times the limit |" in run(*options, "--targets")[1]


def test_an_own_image_and_question(run, qwen, tmp_path):
    """The prompt is that of the image and the question: a larger image and more words are more tokens."""
    Image.new("RGB", (112, 56), "red").save(tmp_path / "a.png")
    options = ("--model", qwen, "--keep", "0.25", "--no-plot", "--json", "--image", tmp_path / "a.png")
    cases = []
    for question in ("what?", "what is the color of the thing in the middle?"):
        code, out, err = run(*options, "--question", question)
        assert (code, err) == (0, "")
        cases.append(json.loads(out.splitlines()[-1])["cases"][0])
    inputs = make_inputs(load(qwen), [Image.new("RGB", (112, 56))], ["what?"])
    assert cases[0]["visual_tokens"] == cases[1]["visual_tokens"] == int(inputs["mm_token_type_ids"].sum())
    assert cases[0]["prompt_tokens"] == inputs["input_ids"].shape[1] < cases[1]["prompt_tokens"]


def test_a_shape_has_no_image_of_ones_own(run, tmp_path):
    for option in (("--image", tmp_path / "a.png"), ("--question", "what?")):
        assert f"{option[0]} is for checkpoints" in refusal(run("--model", "llava-1.5-7b", *option))


def test_a_folder(run, llava, tmp_path):
    code, out, err = run("--model", llava, "--keep", "1.0,0.25,2", "--batch", "1,2", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    results = tmp_path / "results"
    assert json.loads((results / "bench.json").read_text()) == record
    assert (results / "table.md").read_text().strip() in out
    assert (results / "plot.png").stat().st_size > 10_000
    assert record["model"] == {"name": llava, "dtype": "float32", "device": "cpu"}
    assert set(record["versions"]) >= {"foveate", "torch", "transformers"}
    assert (record["rounds"], record["new_tokens"], record["threads"]) == (1, 2, torch.get_num_threads())
    assert [(case["batch"], case["visual_tokens"]) for case in record["cases"]] == [(1, 16), (2, 16)]
    for case in record["cases"]:
        names = [arm["name"] for arm in case["arms"]]
        assert names == ["unpruned", "foveate 0.25", "limit, 4 tokens", "foveate 2", "limit, 2 tokens"]
        kv = {arm["name"]: arm["kv_bytes"] for arm in case["arms"]}
        assert kv["foveate 2"] == kv["limit, 2 tokens"] < kv["unpruned"]
        for arm in case["arms"]:
            assert arm["name"] in out
        assert case["verdict"] in out
    one, two = (case["arms"][0]["kv_bytes"] for case in record["cases"])
    assert two == 2 * one
    for head in (
        "vision encoder, ms",
        "first look, ms",
        "selection, ms",
        "prefill, ms",
        "decode, ms/token",
        "KV cache",
        "peak memory",
    ):
        assert head in out


def test_it_ends_with_the_verdict(run, llava, tmp_path):
    code, out, _ = run("--model", llava, "--keep", "0.25", "--method", "grid,random(seed=1)", "--no-plot")
    assert code == 0
    last = out.rstrip().splitlines()[-1]
    assert last.startswith("1 prompt, image 672x672: ")
    assert "random(seed=1) 0.25" in out
    assert not (tmp_path / "results" / "plot.png").exists()


def test_images_of_two_sizes(run, qwen):
    code, out, _ = run("--model", qwen, "--keep", "2", "--image-size", "16,24x32", "--json", "--no-plot")
    assert code == 0
    cases = json.loads(out.splitlines()[-1])["cases"]
    assert [(case["image_size"], case["visual_tokens"]) for case in cases] == [("16x16", 4), ("24x32", 12)]


def test_sizes_that_change_nothing(run, llava, qwen):
    assert "makes the same of an image of 99x99" in refusal(run("--model", llava, "--image-size", 99))
    assert run("--model", llava, "--image-size", 32, "--keep", "2", "--no-plot")[0] == 0  # its own
    assert "makes the same of" in refusal(run("--model", qwen, "--image-size", 400))  # larger than it reads


@pytest.mark.parametrize("name", SMALL)
def test_shapes(run, monkeypatch, name):
    monkeypatch.setitem(shapes.SHAPES, name, SMALL[name])
    code, out, _ = run("--model", f"{name} shape", "--layers", 1, "--keep", "2", "--batch", 2, "--json", "--no-plot")
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    assert record["model"]["name"] == name
    assert record["model"]["scale"]["layers"] == 1
    assert "Random weights; 1 of 4 decoder layers" in out
    assert record["cases"][0]["image_size"] == "56x56"


def test_the_bundled_model_without_arguments(run):
    code, out, _ = run()
    assert code == 0
    assert "Batch 1, image 208x208: 576 visual of 586 tokens." in out
    for name in ("foveate 0.333", "foveate 0.111", "foveate 0.056", "limit, 32 tokens"):
        assert f"| {name} |" in out


@pytest.mark.parametrize("name", ["bench.json", "table.md", "plot.png"])
def test_a_disk_that_is_full_loses_no_figure(run, llava, tmp_path, name):
    (tmp_path / "results" / name).mkdir(parents=True)
    code, out, err = run("--model", llava, "--keep", 2, "--json")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name} cannot be written" in err
    assert json.loads(out.splitlines()[-1])["cases"][0]["verdict"] in out


def test_two_runs_in_one_folder(run, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.apps.bench.model.open_model", None)
    with open_folder(tmp_path / "results"):
        assert "Another run writes to" in refusal(run())


def test_memory_that_runs_out(run, llava, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("foveate.apps.bench.run.measure_case", fail)
    assert "give a smaller --batch" in refusal(run("--model", llava))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--keep", ""], "is no number"),
        (["--keep", "1.0"], "prunes nothing"),
        (["--method", "fastv"], "bench methods that prune the inputs"),
        (["--batch", "0"], "--batch '0'"),
        (["--image-size", "big"], "--image-size 'big' is no size"),
        (["--rounds", "0"], "--rounds"),
        (["--new-tokens", "0"], "--new-tokens"),
        (["--layers", "0", "--model", "llava-1.5-7b"], "--layers"),
        (["--layers", "99", "--model", "llava-1.5-7b"], "--layers 99: give 1 to 32"),
        (["--model", "nothing shape"], "There is no shape 'nothing'"),
        (["--model", "/no/such/model"], "There is no folder"),
        (["--method", "visionzip", "--model", "bundled-qwen"], "use one of"),
    ],
)
def test_bad_options(run, options, text):
    assert text in refusal(run(*options))
