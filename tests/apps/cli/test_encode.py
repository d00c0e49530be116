"""What `--encode` takes, what each command says of anything else, and what `ask` shows."""

import json
import re

import pytest
import torch
from PIL import Image

import foveate
from foveate.apps.ask import ask
from foveate.apps.encoder import (
    WHOLE,
    EncoderOptions,
    encodes_all,
    list_shares,
    parse_encode,
    parse_encoder,
    parse_encoders,
    parse_skip,
    prune_timed,
)
from foveate.errors import InputError, ModelError
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.files import open_image
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from policies import save_policy
from tiled import tiled_folder
from viz.golden.write import make_scene


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """A model that sees four tiles and an overview of a square image."""
    return str(tiled_folder("llava_next", tmp_path_factory.mktemp("tiles")))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.png"
    make_scene(90, 90).save(path)
    return str(path)


@pytest.fixture(scope="module")
def loaded(tiles):
    with quiet():
        return load(tiles)


def make_page():
    """A white page with a star in one corner."""
    page = Image.new("RGB", (160, 160), "white")
    page.paste(make_scene(48, 48), (16, 16))
    return page


def test_shares():
    assert [parse_encode(text).encode for text in ("0.4", "1.0", "1", " 1e-3 ")] == [0.4, 1.0, 1.0, 0.001]
    assert parse_encode("1") == WHOLE
    assert [each.encode for each in parse_encoders("0.6, 1.0,0.4")] == [0.6, 0.4]
    assert parse_encoders("1.0") == []
    assert parse_encoders("0.4,auto") == [EncoderOptions(0.4), EncoderOptions("auto")]
    assert EncoderOptions("auto").label == "encode auto"
    assert not encodes_all({"encode": "auto"})
    assert (WHOLE.label, EncoderOptions(0.4).label) == ("", "encode 0.4")
    assert [encodes_all(each) for each in ({}, {"keep": 3}, {"encode": 1}, {"encode": 0.4})] == [True] * 3 + [False]


@pytest.mark.parametrize("text", ["", "0", "-0.4", "1.5", "2", "nan", "inf", "most", "0,4", "half", "True", "0.4 %"])
def test_what_is_no_share(text):
    with pytest.raises(
        InputError, match=r"^--encode .* is not a share .*: use a number in \(0, 1\], such as 0\.4, or auto\.$"
    ):
        parse_encode(text)


@pytest.mark.parametrize("text", ["0.4,0.4", "0.4,0.40", "1.0,1"])
def test_shares_are_measured_once(text):
    with pytest.raises(InputError, match="names a value twice: leave one of them out"):
        parse_encoders(text)


def test_thresholds():
    assert [parse_skip(text) for text in ("blank", " blank ", "0", "0.02")] == ["blank", "blank", 0.0, 0.02]
    assert parse_encoder("1.0", "blank", 3) == EncoderOptions(skip="blank", max_encoder_memory=3 * 2**20)
    assert parse_encoders("0.4,1.0", "blank,0") == [
        EncoderOptions(0.4), EncoderOptions(skip="blank"), EncoderOptions(skip=0.0),
    ]  # fmt: skip
    assert (EncoderOptions(skip="blank").label, EncoderOptions(skip=0.0).label) == ("skip blank", "skip 0.0")
    with pytest.raises(InputError, match=r"^--skip 'blank,blank' names a value twice"):
        parse_encoders("1.0", "blank,blank")


BEFORE = {"ask": ["image.png", "what?"], "batch": ["q.jsonl", "--out", "out"], "serve": ["--port", "0"]}


@pytest.mark.parametrize("text", ["0", "1.5", "half"])
@pytest.mark.parametrize("command", ["ask", "eval", "bench", "serve", "batch"])
def test_every_command_refuses_other_values_at_once(refuse, monkeypatch, tmp_path, command, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foveate.runtime.load.load", None)
    says = refuse(command, *BEFORE.get(command, ()), "--encode", text)
    wanted = "use a number in (0, 1], such as 0.4, or auto"
    assert says == f"foveate: --encode {text!r} is not a share of an image: {wanted}.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["ask", "eval", "bench", "serve", "batch"])
def test_models_that_see_images_whole(refuse, monkeypatch, tmp_path, image, command):
    monkeypatch.chdir(tmp_path)
    before = {"ask": [image, "what?"], "eval": ["--limit", 1, "--methods", "foveate"]}.get(command)
    says = refuse(command, *(before or BEFORE.get(command, ())), "--model", "bundled", "--encode", 0.4, "--keep", 0.1)
    assert says == (
        "foveate: encode=0.4 encodes a part of an image, and foveate encodes images of llava models whole: leave "
        "encode out.\n"
    )


def test_windows_of_a_model_without_tiles(run, tmp_path):
    """A glance at a smaller image, then some windows; the overlay has what was not encoded under diagonal lines."""
    image, overlay = tmp_path / "scene.png", tmp_path / "kept.png"
    draw_scene(sample_scene(0, 0, "shelf")).save(image)
    options = ["--model", "bundled-qwen", "--keep", 0.1, "--max-new-tokens", 2, "--overlay", overlay, "--json"]
    code, out, err = run("ask", image, "what color is the star?", *options, "--encode", 0.5)
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    assert 0.25 < record["encoded"][0] <= 0.5
    (row,) = [line for line in out.splitlines() if "parts encoded" in line]
    some, every = map(int, re.findall(r"\d+", row))
    assert 0 < some < every
    assert overlay.exists()


def test_a_policy_is_for_whole_images(refuse, monkeypatch, tmp_path, image, loaded):
    monkeypatch.setattr("foveate.runtime.load.load", None)
    path = save_policy(loaded.model, tmp_path)
    for keep in ("auto", path):
        for command, before in (("ask", [image, "what?"]), ("batch", ["q.jsonl", "--out", tmp_path / "out"])):
            says = refuse(command, *before, "--keep", keep, "--encode", 0.4)
            assert "encode=0.4 is not for a policy, which was calibrated on whole images: leave encode out" in says
        says = refuse("eval", "--keep", keep, "--encode", 0.4, "--out", tmp_path / "out")
        assert "encode 0.4 is not for a policy, which was calibrated on whole images: add a number to --keep" in says
        assert "encode=0.4 is not for a policy" in refuse("serve", "--keep", keep, "--encode", 0.4, "--port", 0)
    assert not (tmp_path / "out").exists()


def test_methods_inside_the_decoder_see_the_whole_image(refuse, tmp_path):
    words = "encode 0.4 is not for fastv, which sees the whole image: leave it out."
    assert words in refuse("eval", "--methods", "foveate,fastv", "--encode", 0.4, "--out", tmp_path / "out")
    batch = ("batch", tmp_path / "q.jsonl", "--out", tmp_path / "out", "--method", "fastv")
    assert words in refuse(*batch, "--encode", 0.4)


# -- ask -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "count"), [("0.4", 2), ("0.6", 3), ("0.1", 1)])
def test_ask_says_what_was_encoded(run, tiles, image, loaded, share, count):
    code, out, err = run(
        "ask", image, "what color?", "--model", tiles, "--encode", share, "--json", "--max-new-tokens", 3
    )
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    assert (record["encode"], record["encoded"]) == (float(share), [count / 5])
    (row,) = [line for line in out.splitlines() if "parts encoded" in line]
    assert [cell.strip() for cell in row.split("│")[2:4]] == [str(count), "5"]
    with torch.no_grad():
        inputs = make_inputs(loaded, [open_image(image)], ["what color?"])
        (item,) = foveate.prune_inputs(loaded.model, inputs, keep=0.1, encode=float(share)).report.items
    assert (record["kept"], record["total"]) == (len(item.kept), item.total)
    for timing in record["seconds"].values():
        assert timing["first_token"] == pytest.approx(timing["encode"] + timing["select"] + timing["prefill"])
    assert record["seconds"]["pruned"]["encode"] != record["seconds"]["unpruned"]["encode"]


def test_ask_without_it_is_as_before(run, tiles, image):
    outputs = [run("ask", image, "what?", "--model", tiles, "--json", "--max-new-tokens", 3, "--repeat", 1, *more)[1]
               for more in ((), ("--encode", "1.0"), ("--encode", "1"))]  # fmt: skip
    records = [json.loads(out.splitlines()[-1]) for out in outputs]
    assert [(record["encode"], record["encoded"]) for record in records] == [(1.0, [1.0])] * 3
    assert len({(record["kept"], record["answer"]) for record in records}) == 1
    assert not any("parts encoded" in out for out in outputs)
    assert records[0]["seconds"]["pruned"]["encode"] == records[0]["seconds"]["unpruned"]["encode"]


def test_the_answers_are_those_of_the_library(loaded, image):
    pixels, question = open_image(image), "what color is it?"
    with quiet():
        result = ask(loaded, pixels, question, keep=0.3, encoder=EncoderOptions(0.4), max_new_tokens=6)
    with torch.no_grad():
        inputs = make_inputs(loaded, [pixels], [question])
        short = foveate.prune_inputs(loaded.model, inputs, keep=0.3, encode=0.4)
        assert result.answer == generate_answers(loaded, short, 6)[0]
        assert result.answer_unpruned == generate_answers(loaded, inputs, 6)[0]
    assert (
        str(result.report)
        == f"foveate: {len(short.report.items[0].kept)} of 336 visual tokens kept, 2 of 5 parts encoded"
    )


def test_blank_parts_are_left_out(run, refuse, tmp_path, image):
    page, ask = tmp_path / "page.png", ("what color is the star?", "--model", "bundled-qwen", "--max-new-tokens", 4)
    make_page().save(page)
    records = []
    for more in ((), ("--skip", "blank"), ("--max-encoder-memory", 64)):
        code, out, err = run("ask", page, *ask, *more, "--keep", "1.0", "--json")
        assert (code, err) == (0, "")
        records.append(json.loads(out.splitlines()[-1]))
    whole, skipped, bounded = records
    assert (whole["skip"], skipped["skip"], bounded["max_encoder_memory"]) == (None, "blank", 64 * 2**20)
    assert whole["encoded"] == bounded["encoded"] == [1.0]
    assert 0 < skipped["encoded"][0] < 0.9
    assert bounded["answer"] == whole["answer"]
    with quiet(), torch.no_grad():
        loaded = load("bundled-qwen")
        inputs = make_inputs(loaded, [make_page()], [ask[0]])
        short = foveate.prune_inputs(loaded.model, inputs, keep=1.0, skip="blank")
        assert skipped["answer"] == generate_answers(loaded, short, 4)[0]
    assert refuse("ask", page, *ask, "--skip", "blank", "--encode", 0.5) == (
        "foveate: --skip and --encode each choose what is encoded: leave one of them out.\n"
    )


@pytest.mark.parametrize("text", ["", "-0.1", "1", "nan", "white"])
@pytest.mark.parametrize("command", ["ask", "eval", "serve", "batch"])
def test_every_command_refuses_other_thresholds_at_once(refuse, monkeypatch, tmp_path, command, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foveate.runtime.load.load", None)
    says = refuse(command, *BEFORE.get(command, ()), "--skip", text)
    assert says == f"foveate: --skip {text!r} is no threshold: use blank, or a number in [0, 1), 0 for equal pixels.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [("--skip", "blank"), ("--max-encoder-memory", 100)])
@pytest.mark.parametrize("command", ["ask", "serve", "batch"])
def test_models_whose_tower_takes_images(refuse, monkeypatch, tmp_path, image, command, more):
    monkeypatch.chdir(tmp_path)
    before = [image, "what?"] if command == "ask" else BEFORE[command]
    says = refuse(command, *before, "--model", "bundled", *more, "--keep", 0.1)
    assert f"{more[0][2:].replace('-', '_')} " in says
    assert "llava models takes " in says


def test_vllm_encodes_images_whole(refuse):
    for option, value in (("--skip", "blank"), ("--max-encoder-memory", 100)):
        says = refuse("serve", "--engine", "vllm", "--print", option, value)
        assert "vLLM encodes an image whole: leave " in says


def test_an_arm_of_eval_leaves_blank_parts_out(run, tmp_path):
    options = ["--model", "bundled-qwen", "--tasks", "chart", "--limit", 2, "--methods", "foveate", "--keep", "0.2"]
    code, _, _ = run("eval", *options, "--skip", "blank", "--no-resize", "--no-plot", "--out", tmp_path)
    assert code == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if "skip blank" in line and "%" in line]
    assert 0 < int(re.findall(r"(\d+)%", rows[0])[0]) < 100


def test_the_overlay_shows_the_tiles_that_were_left_out(run, tiles, image, loaded, tmp_path):
    ask = ("ask", image, "what color?", "--model", tiles, "--max-new-tokens", 1, "--overlay")
    assert run(*ask, tmp_path / "some.png", "--encode", 0.4)[0] == run(*ask, tmp_path / "all.png")[0] == 0
    with torch.no_grad():
        inputs = make_inputs(loaded, [open_image(image)], ["what color?"])
        report = foveate.prune_inputs(loaded.model, inputs, keep=0.1, encode=0.4, explain=True).report
    expected = foveate.draw(open_image(image), report, processor=loaded.processor)
    with Image.open(tmp_path / "some.png") as some, Image.open(tmp_path / "all.png") as whole:
        assert some.tobytes() == expected.tobytes()
        assert some.size[0] == whole.size[0]
        assert some.tobytes() != whole.tobytes()


def test_an_image_of_one_tile_has_a_note(run, tmp_path):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "small.png")
    folder = tiled_folder("internvl", tmp_path / "internvl")
    code, out, _ = run("ask", tmp_path / "small.png", "what?", "--model", folder, "--encode", 0.4, "--json",
                       "--max-new-tokens", 1)  # fmt: skip
    record = json.loads(out.splitlines()[-1])
    assert (code, record["encoded"]) == (0, [1.0])
    assert "An image of one tile was encoded whole: there is nothing of it to leave out." in record["notes"]


# -- time ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_parts_of_the_time_are_told_apart(loaded, image, monkeypatch):
    """What the report counts is the selection, the rest of `prune_inputs` is the encoder."""
    inputs = make_inputs(loaded, [open_image(image)], ["what?"])
    short, encoding, selection = prune_timed(loaded.model, inputs, keep=0.1, method="foveate", encode=0.4)
    assert selection == pytest.approx(short.report.seconds)
    assert encoding > 0
    assert list_shares(short.report.items) == [0.4]
    short, encoding, selection = prune_timed(loaded.model, inputs, keep=0.1, method="foveate")
    assert min(encoding, selection - short.report.seconds) > 0
    encoded = foveate.encode(loaded.model, inputs)
    monkeypatch.setattr("foveate.pipeline.encode.encode", None)  # it is not called again
    again, _, _ = prune_timed(loaded.model, inputs, encoded, keep=0.1, method="foveate")
    assert torch.equal(again["input_ids"], short["input_ids"])


@torch.no_grad()
def test_a_prompt_without_an_image_has_no_encoder(loaded, monkeypatch):
    monkeypatch.setattr("foveate.pipeline.encode.encode", None)
    text = loaded.processor.tokenizer("how many?", return_tensors="pt")
    for share in (1.0, 0.4):
        short, _, selection = prune_timed(loaded.model, text, keep=0.1, method="foveate", encode=share)
        assert (short.report.items, str(short.report)) == ((), "foveate: 0 of 0 visual tokens kept")
        assert selection > 0


def test_it_is_refused_before_the_encoder_runs(bundled, image, monkeypatch):
    monkeypatch.setattr("foveate.apps.ask.encode", None)
    with pytest.raises(ModelError, match="images of llava models whole"):
        ask(bundled, open_image(image), "what?", keep=0.1, encoder=EncoderOptions(0.4))
