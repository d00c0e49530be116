import json
import warnings
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import DynamicCache

import foveate
from foveate.apps.ask import DRAWN_WORLD, FirstTokenTiming, ask, kv_bytes, take_middle
from foveate.errors import FoveateWarning
from foveate.models import family_of
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import load, quiet
from tiled import CALLS, TILED, tiled_folder
from tiny import tiny_folder


def test_ask(run, folder, scene, tmp_path):
    overlay = tmp_path / "kept.png"
    code, out, err = run(
        "ask", scene, "what color is the star?", "--model", folder, "--keep", 5, "--overlay", overlay, "--json",
        "--max-new-tokens", 4,
    )  # fmt: skip
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    assert set(record) == {
        "answer", "answer_unpruned", "kept", "total", "keep", "method", "model", "seconds", "kv_bytes", "peak_bytes",
        "overlay", "retried", "reasons", "notes", "encode", "encoded", "skip", "max_encoder_memory",
        "rounds", "range", "others",
    }  # fmt: skip
    assert (record["kept"], record["total"], record["keep"], record["method"]) == (5, 16, 5, "foveate")
    assert record["model"] == folder
    with Image.open(record["overlay"]) as drawn:
        assert drawn.width > 2 * 512  # the original, what was kept, and the map
    table = out[: out.index('{"answer"')]
    for word in ("pruned", "unpruned", "5", "16", "time to first token", "KV cache", "vision encoder", "selection"):
        assert word in table


def test_timings(run, folder, scene):
    _, out, _ = run("ask", scene, "what color?", "--model", folder, "--keep", 5, "--json", "--max-new-tokens", 1)
    record = json.loads(out.splitlines()[-1])
    pruned, unpruned = record["seconds"]["pruned"], record["seconds"]["unpruned"]
    for timing in (pruned, unpruned):
        assert timing["first_token"] == pytest.approx(timing["encode"] + timing["select"] + timing["prefill"])
        assert min(timing["encode"], timing["prefill"]) > 0
    assert pruned["select"] > 0 == unpruned["select"]
    # Two layers, two heads of 16, keys and values of float32; 11 tokens fewer.
    assert record["kv_bytes"]["unpruned"] - record["kv_bytes"]["pruned"] == 11 * 2 * 2 * 16 * 2 * 4


def test_ask_without_json_ends_with_the_table(run, folder, scene):
    code, out, _ = run("ask", scene, "how many?", "--model", folder, "--keep", "1.0", "--max-new-tokens", 2)
    assert code == 0
    assert "{" not in out
    assert "foveate, 16 of 16 visual tokens" in out


def test_one_token_is_not_called_no_tokens(run, folder, scene):
    _, out, _ = run("ask", scene, "how many?", "--model", folder, "--keep", "1", "--max-new-tokens", 1)
    assert "foveate, 1 of 16 visual tokens" in out


def test_budgets_and_methods_side_by_side(run, folder, scene, tmp_path):
    """Each column is what the command says alone."""
    options = ("--model", folder, "--max-new-tokens", 2, "--json", "--repeat", 1)
    overlay = tmp_path / "o.png"
    code, out, err = run(
        "ask", scene, "how many?", "--keep", 5, "--compare", "grid, 3,0.5", *options, "--overlay", overlay
    )
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    arms = [(5, "grid"), (3, "foveate"), (0.5, "foveate")]
    assert record["rounds"] == 1
    assert [(each["kept"], each["method"]) for each in record["others"]] == [
        (min(k, 5) if k > 1 else 8, m) for k, m in arms
    ]
    for each, (keep, method) in zip(record["others"], arms, strict=True):
        alone = json.loads(
            run("ask", scene, "how many?", "--keep", keep, "--method", method, *options)[1].splitlines()[-1]
        )
        assert (each["answer"], each["kv_bytes"]) == (alone["answer"], alone["kv_bytes"]["pruned"])
        assert each["seconds"]["first_token"] == pytest.approx(sum(list(each["seconds"].values())[1:]))
    lowest, highest = record["range"]["pruned"]
    assert lowest == highest == record["seconds"]["pruned"]["first_token"]
    with Image.open(overlay) as drawn:
        assert max(drawn.size) > 2 * 512


@pytest.mark.parametrize(
    ("compare", "text"),
    [
        ("grid,grid", "--compare grid is there already"),
        ("foveate", "--compare foveate is there already"),
        ("5", "--compare 5 is there already"),
        ("gird", "gird"),
        ("2.5", "keep=2.5"),
        ("0.x", "--compare '0.x' is no number"),
    ],
)
def test_comparisons_that_cannot_be(run, scene, compare, text):
    code, out, err = run("ask", scene, "how many?", "--keep", 5, "--compare", compare)
    assert (code, out) == (2, "")
    assert text in " ".join(err.split())


def test_the_spread_of_rounds(folder, scene):
    with quiet(), Image.open(scene) as image:
        comparison = ask(load(folder), image, "how many", keep=3, max_new_tokens=1, rounds=5)
    for timing in (comparison.pruned, comparison.unpruned):
        assert 0 < timing.fastest < timing.slowest
        assert timing.fastest <= timing.first_token <= timing.slowest


def test_the_time_is_that_of_a_whole_round():
    """The medians of these parts are 2 each, and their sum is more than any round took."""
    rounds = [FirstTokenTiming(*parts, 0, None) for parts in ((2, 2, 0), (2, 0, 2), (0, 2, 2.5))]
    middle = take_middle(rounds)
    assert (middle.encode, middle.select, middle.prefill) in [(2, 2, 0), (2, 0, 2)]
    assert (middle.fastest, middle.first_token, middle.slowest) == (4, 4, 4.5)
    assert take_middle(rounds[2:]) == FirstTokenTiming(0, 2, 2.5, 0, None, 4.5, 4.5)


def test_one_round_has_no_spread(run, folder, scene):
    _, out, _ = run("ask", scene, "how many?", "--model", folder, "--repeat", 1, "--max-new-tokens", 1)
    assert "Times are those of one round." in out
    row = next(line for line in out.splitlines() if "time to first token" in line)
    assert " ms " in row
    assert "(" not in row


def test_all_kept_is_the_unpruned_answer(folder, scene):
    with quiet(), Image.open(scene) as image:
        comparison = ask(load(folder), image, "how many are there", keep=1.0, max_new_tokens=8)
    assert comparison.answer == comparison.answer_unpruned
    assert comparison.pruned.kv_bytes == comparison.unpruned.kv_bytes


def test_the_answer_is_that_of_generate(folder, scene):
    """`ask` feeds the encoder's output by hand; the answers are those of the stock path."""
    with quiet(), Image.open(scene) as image:
        loaded = load(folder)
        comparison = ask(loaded, image, "what shape is it", keep=3, method="grid", max_new_tokens=6)
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what shape is it"}]}
        text = loaded.processor.apply_chat_template([turn], add_generation_prompt=True)
        inputs = loaded.processor(text=[text], images=[image], return_tensors="pt").to(loaded.model.device)
        answers = []
        for keep in (3, 1.0):
            with foveate.pruning(loaded.model, keep=keep, method="grid"):
                out = loaded.model.generate(**inputs, max_new_tokens=6, do_sample=False)
            new = out[0, inputs["input_ids"].shape[1] :]
            answers.append(loaded.processor.decode(new, skip_special_tokens=True).strip())
    assert [comparison.answer, comparison.answer_unpruned] == answers


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
def test_ask_the_other_families(run, scene, tmp_path, model_type):
    code, out, err = run(
        "ask", scene, "what color is it?", "--model", tiny_folder(model_type, tmp_path), "--keep", 0.25, "--json",
        "--positions", "compact", "--method", "mmtok", "--max-new-tokens", 2,
    )  # fmt: skip
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    assert record["kept"] == record["total"] // 4 > 1
    assert record["overlay"] is None
    for note in record["notes"]:
        assert note.split()[0] in out


@pytest.mark.parametrize("name", [name for name in TILED if name not in CALLS])
def test_ask_counts_the_tokens_of_all_tiles(run, tmp_path, name):
    folder, image = tiled_folder(name, tmp_path), Image.new("RGB", (96, 64), "red")
    image.save(tmp_path / "image.png")
    code, out, err = run("ask", tmp_path / "image.png", "what?", "--model", folder, "--json", "--max-new-tokens", 1)
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    with quiet():
        loaded = load(str(folder))
    inputs = make_inputs(loaded, [image], ["what?"])
    short = foveate.prune_inputs(loaded.model, inputs, keep=0.1)
    placeholders = [family_of(loaded.model).placeholders(loaded.model.config, each) for each in (short, inputs)]
    assert [record["kept"], record["total"]] == [int(each.sum()) for each in placeholders]
    assert f" {record['kept']} " in out


def test_ask_the_bundled_model(run, scene):
    code, out, _ = run("ask", scene, "what color is the star?", "--json", "--max-new-tokens", 2)
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    assert (record["kept"], record["total"], record["model"]) == (58, 576, "bundled")
    assert record["notes"] == [DRAWN_WORLD]
    assert "knows drawn scenes alone" in out


def test_warnings_of_foveate_become_notes(run, folder, scene):
    code, out, err = run("ask", scene, "how many?", "--model", folder, "--keep", 99, "--json", "--max-new-tokens", 1)
    assert (code, err) == (0, "")
    notes = json.loads(out.splitlines()[-1])["notes"]
    assert notes == ["keep=99 keeps all: the image has only 16 visual tokens."]


def test_other_warnings_pass_through(folder, scene, monkeypatch):
    monkeypatch.setattr("foveate.apps.ask.kv_bytes", lambda cache: warnings.warn("strange", stacklevel=1) or 0)
    with quiet(), Image.open(scene) as image, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask(load(folder), image, "how many", keep=3, max_new_tokens=1)
    assert {str(w.message) for w in caught if not issubclass(w.category, FoveateWarning)} >= {"strange"}


def test_a_note_on_an_empty_question(run, scene, tmp_path):
    folder = tiny_folder("qwen3_vl", tmp_path)
    code, out, _ = run("ask", scene, "", "--model", folder, "--json", "--max-new-tokens", 1)
    assert code == 0
    assert "no question" in " ".join(json.loads(out.splitlines()[-1])["notes"])


def test_answers_with_markup_and_control_characters(run, folder, scene, monkeypatch):
    monkeypatch.setattr("foveate.apps.ask.generate_answers", lambda *_: ["[bold]x[/nope]\x1b[31m\ud800"])
    code, out, _ = run("ask", scene, "how many?", "--model", folder, "--json")
    assert code == 0
    assert "[bold]x[/nope]" in out
    assert "\x1b" not in out
    assert json.loads(out.splitlines()[-1])["answer"] == "[bold]x[/nope]\x1b[31m\ud800"


def test_kv_bytes_counts_all_tensors_of_the_cache():
    cache = DynamicCache()
    for layer, dtype in enumerate((torch.float32, torch.float16)):
        cache.update(torch.zeros(1, 2, 5, 8, dtype=dtype), torch.zeros(1, 2, 5, 8, dtype=dtype), layer)
    assert kv_bytes(cache) == 2 * 80 * 4 + 2 * 80 * 2
    assert kv_bytes(DynamicCache()) == 0


def test_a_question_about_several_images(run, folder, scene, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    options = ("--model", folder, "--keep", 3, "--max-new-tokens", 3, "--json")
    overlay = tmp_path / "kept.png"
    code, out, err = run("ask", scene, tmp_path / "red.png", "which is red?", *options, "--overlay", overlay)
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    assert (record["kept"], record["total"]) == (6, 32)
    with quiet(), torch.no_grad(), Image.open(scene) as image:
        loaded = load(folder)
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "which is red?"}]
        text = loaded.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = [image, Image.new("RGB", (60, 40), "red")]
        inputs = loaded.processor(text=[text], images=images, return_tensors="pt")
        with foveate.pruning(loaded.model, keep=3):
            new = loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert record["answer"] == loaded.processor.decode(new, skip_special_tokens=True).strip()
    with Image.open(overlay) as drawn:
        assert max(drawn.size) >= 2 * 512


def test_an_image_on_standard_input(run, folder, scene, monkeypatch):
    options = ("how many?", "--model", folder, "--keep", 3, "--max-new-tokens", 2, "--json")
    with open(scene, "rb") as file:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
        code, out, err = run("ask", "-", *options)
    assert (code, err) == (0, "")
    by_path = json.loads(run("ask", scene, *options)[1].splitlines()[-1])
    assert json.loads(out.splitlines()[-1])["answer"] == by_path["answer"]


def test_what_is_no_file(run, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(b"")))
    for name, text in (
        ("-", "The image on standard input is no image"),
        ("https://example.com/a.png", "https://example.com/a.png is an address: add --fetch"),
    ):
        code, out, err = run("ask", name, "how many?")
        assert (code, out) == (2, "")
        assert text in " ".join(err.split())
