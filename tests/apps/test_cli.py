import json
import os
import subprocess
import sys
import warnings

import pytest
import torch
from PIL import Image
from transformers import DynamicCache
from typer.testing import CliRunner

from foveate import viz
from foveate.apps import cli
from foveate.apps.ask import ask, kv_bytes
from foveate.conformance import laws
from foveate.conformance.laws import LawResult
from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from tiny import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_folder("llava", tmp_path_factory.mktemp("llava")))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    draw_scene(sample_scene(0, 3)).save(path)
    return str(path)


@pytest.fixture
def run(capsys):
    """Call the console script's function: (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


def refusal(result):
    code, out, err = result
    assert code == 2, (out, err)
    assert err.startswith("foveate: ")
    assert err.count("\n") == 1
    return err


# -- ask -----------------------------------------------------------------------------------------------------------


def test_ask(run, folder, scene, tmp_path):
    overlay = tmp_path / "kept.png"
    code, out, err = run(
        "ask", scene, "what color is the star?", "--model", folder, "--keep", 5, "--overlay", overlay, "--json",
        "--max-new-tokens", 4,
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out.splitlines()[-1])
    assert set(found) == {
        "answer", "answer_unpruned", "kept", "total", "keep", "method", "model", "seconds", "kv_bytes", "peak_bytes",
        "overlay", "notes",
    }  # fmt: skip
    assert (found["kept"], found["total"], found["keep"], found["method"]) == (5, 16, 5, "foveate")
    assert found["model"] == folder
    pruned, unpruned = found["seconds"]["pruned"], found["seconds"]["unpruned"]
    for cost in (pruned, unpruned):
        assert cost["first_token"] == pytest.approx(cost["encode"] + cost["select"] + cost["prefill"])
        assert min(cost["encode"], cost["prefill"]) > 0
    assert pruned["select"] > 0 == unpruned["select"]
    # Two layers, two heads of 16, keys and values of float32; 11 tokens fewer.
    assert found["kv_bytes"]["unpruned"] - found["kv_bytes"]["pruned"] == 11 * 2 * 2 * 16 * 2 * 4
    with Image.open(found["overlay"]) as drawn:
        assert drawn.width == 512 < drawn.height  # the picture above a legend
    table = out[: out.index('{"answer"')]
    for word in ("pruned", "unpruned", "5", "16", "time to first token", "KV cache", "vision encoder", "selection"):
        assert word in table


def test_ask_without_json_ends_with_the_table(run, folder, scene):
    code, out, _ = run("ask", scene, "how many?", "--model", folder, "--keep", "1.0", "--max-new-tokens", 2)
    assert code == 0
    assert "{" not in out
    assert "100% of the visual tokens" in out


def test_all_kept_is_the_unpruned_answer(folder, scene):
    with quiet(), Image.open(scene) as picture:
        found = ask(load(folder), picture, "how many are there", keep=1.0, max_new_tokens=8)
    assert found.answer == found.answer_unpruned
    assert found.pruned.kv_bytes == found.unpruned.kv_bytes


def test_the_answer_is_that_of_generate(folder, scene):
    """`ask` feeds the encoder's output by hand; the answers are those of the stock path."""
    import foveate

    with quiet(), Image.open(scene) as picture:
        loaded = load(folder)
        found = ask(loaded, picture, "what shape is it", keep=3, method="grid", max_new_tokens=6)
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what shape is it"}]}
        text = loaded.processor.apply_chat_template([turn], add_generation_prompt=True)
        inputs = loaded.processor(text=[text], images=[picture], return_tensors="pt").to(loaded.model.device)
        answers = []
        for keep in (3, 1.0):
            with foveate.pruning(loaded.model, keep=keep, method="grid"):
                out = loaded.model.generate(**inputs, max_new_tokens=6, do_sample=False)
            new = out[0, inputs["input_ids"].shape[1] :]
            answers.append(loaded.processor.decode(new, skip_special_tokens=True).strip())
    assert [found.answer, found.answer_unpruned] == answers


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
def test_ask_the_other_families(run, scene, tmp_path, model_type):
    code, out, err = run(
        "ask", scene, "what color is it?", "--model", tiny_folder(model_type, tmp_path), "--keep", 0.25, "--json",
        "--positions", "compact", "--method", "mmtok", "--max-new-tokens", 2,
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out.splitlines()[-1])
    assert found["kept"] == found["total"] // 4 > 1
    assert found["overlay"] is None
    for note in found["notes"]:
        assert note.split()[0] in out


def test_ask_the_bundled_model(run, scene):
    code, out, _ = run("ask", scene, "what color is the star?", "--json", "--max-new-tokens", 2)
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    assert (found["kept"], found["total"], found["model"]) == (58, 576, "bundled")


def test_what_the_library_warns_of_becomes_a_note(run, folder, scene):
    code, out, err = run("ask", scene, "how many?", "--model", folder, "--keep", 99, "--json", "--max-new-tokens", 1)
    assert (code, err) == (0, "")
    notes = json.loads(out.splitlines()[-1])["notes"]
    assert notes == ["keep=99 keeps all: the image has only 16 visual tokens."]


def test_other_warnings_still_come_through(folder, scene, monkeypatch):
    monkeypatch.setattr("foveate.apps.ask.kv_bytes", lambda cache: warnings.warn("strange", stacklevel=1) or 0)
    with quiet(), Image.open(scene) as picture, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask(load(folder), picture, "how many", keep=3, max_new_tokens=1)
    assert {str(w.message) for w in caught if not issubclass(w.category, FoveateWarning)} >= {"strange"}


def test_an_empty_question_is_noted(run, scene, tmp_path):
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


def test_kv_bytes_counts_what_the_cache_holds():
    cache = DynamicCache()
    for layer, dtype in enumerate((torch.float32, torch.float16)):
        cache.update(torch.zeros(1, 2, 5, 8, dtype=dtype), torch.zeros(1, 2, 5, 8, dtype=dtype), layer)
    assert kv_bytes(cache) == 2 * 80 * 4 + 2 * 80 * 2
    assert kv_bytes(DynamicCache()) == 0


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--keep", "abc"], "'abc' is no number"),
        (["--keep", "0"], "keeps no token"),
        (["--keep", "-3"], "keeps no token"),
        (["--keep", "1.5"], "is not a share"),
        (["--keep", "nan"], "is not a share"),
        (["--method", "zspaprun"], "Did you mean 'zspaprune'"),
        (["--positions", "new"], "--positions"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
        (["--max-new-tokens", "many"], "--max-new-tokens"),
        (["--overlay", "kept.txt"], "has no image suffix"),
        (["--overlay", "/no/such/folder/kept.png"], "There is no folder"),
        (["--colour", "red"], "No such option"),
        (["--model", "/no/such/model"], "There is no folder"),
        (["surplus"], "unexpected extra argument"),
    ],
)
def test_bad_options(run, scene, monkeypatch, options, text):
    if "--model" not in options:
        monkeypatch.setattr(
            "foveate.runtime.load.load", lambda name: pytest.fail("a model was loaded before the check")
        )
    assert text in refusal(run("ask", scene, "why?", *options))


def test_bad_pictures(run, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.runtime.load.load", lambda name: pytest.fail("a model was loaded before the check"))
    assert "There is no image" in refusal(run("ask", tmp_path / "none.png", "why?"))
    (tmp_path / "text.png").write_text("text")
    assert "no image that Pillow can read" in refusal(run("ask", tmp_path / "text.png", "why?"))


def test_arguments_and_commands_that_are_not_there(run):
    assert "Missing argument 'IMAGE'" in refusal(run("ask"))
    assert "No such command 'look'" in refusal(run("look"))


def test_placeholders_in_the_question(run, folder, scene):
    assert "stands for an image" in refusal(run("ask", scene, "what is <image>?", "--model", folder))


def test_no_chat_template(folder, scene):
    with quiet():
        loaded = load(folder)
    for template in (None, "{{ nothing.there }}", "{% endif %}"):
        loaded.processor.chat_template = template
        with Image.open(scene) as picture, pytest.raises(ModelError, match="no chat template"):
            ask(loaded, picture, "why?", keep=0.5)


def test_a_picture_that_the_processor_refuses(scene, tmp_path):
    with quiet():
        loaded = load(str(tiny_folder("qwen2_5_vl", tmp_path)))
        with pytest.raises(InputError, match="aspect ratio"):
            ask(loaded, Image.new("RGB", (2000, 2)), "why?", keep=0.5)


def test_no_raster_no_overlay(run, folder, scene, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise InputError("This model's tokens have no raster.")

    monkeypatch.setattr(viz, "draw", refuse)
    result = run("ask", scene, "why?", "--model", folder, "--overlay", tmp_path / "o.png", "--max-new-tokens", 1)
    assert "no raster" in refusal(result)
    assert "KV cache" in result[1]  # the answer is not lost with the overlay
    assert not (tmp_path / "o.png").exists()


def test_interrupt_and_the_unexpected(run, scene, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("foveate.runtime.files.open_image", interrupt)
    assert run("ask", scene, "why?")[0] == 130
    monkeypatch.setattr("foveate.runtime.files.open_image", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["ask", scene, "why?"])


# -- tables --------------------------------------------------------------------------------------------------------


def test_methods(run):
    code, out, _ = run("methods")
    assert code == 0
    assert "zspaprune" in out
    code, out, _ = run("methods", "--json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    assert {"name", "paper", "summary", "prompt_aware", "needs", "prunes"} == set(rows[0])
    assert {row["name"]: row["needs"] for row in rows}["visionzip"] == ["cls_attention", "keys"]


def test_families(run):
    rows = json.loads(run("families", "--json")[1])
    assert {"llava", "qwen2_5_vl", "qwen3_vl"} <= {row["model_type"] for row in rows}
    assert "M-RoPE" in run("families")[1]


def test_version_and_help(run):
    import foveate

    assert run("--version") == (0, foveate.__version__ + "\n", "")
    for arguments in ([], ["--help"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert all(command in out for command in ("ask", "bench", "methods", "families", "doctor"))
    assert "1 is one token" in " ".join(run("ask", "--help")[1].split())


def test_the_app_itself():
    result = CliRunner().invoke(cli.app, ["methods", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)


# -- doctor --------------------------------------------------------------------------------------------------------


def test_doctor_on_a_model(run, folder):
    code, out, _ = run("doctor", "--model", folder, "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0
    assert found["passed"] is True
    assert found["versions"]["torch"] == torch.__version__
    assert len(found["laws"]) > 3
    assert all(f"pass  {folder}: {law['name']}" in out for law in found["laws"])


def test_doctor_tells_what_fails(run, monkeypatch):
    of_all = [("one", "holds", "0"), ("two", "violated", "1"), ("three", "error", "ValueError: a\nb")]
    results = [LawResult(*law) for law in of_all]
    monkeypatch.setattr(laws, "check_family", lambda model_type: results)
    code, out, err = run("doctor", "--json")
    assert (code, err) == (1, "")
    assert "pass  llava: one: 0\n" in out
    assert "FAIL  llava: two: 1\n" in out
    assert "ERROR  llava: three: ValueError: a b\n" in out
    summary = json.loads(out.splitlines()[-1])
    assert summary["passed"] is False
    assert [(law["passed"], law["status"]) for law in summary["laws"][:3]] == [
        (True, "holds"), (False, "violated"), (False, "error"),
    ]  # fmt: skip


def test_doctor_refuses_a_model_that_is_not_there(run):
    assert "There is no folder" in refusal(run("doctor", "--model", "/no/such/model"))


# -- as a program --------------------------------------------------------------------------------------------------


def program(*arguments, **environment):
    command = [sys.executable, "-c", "from foveate.apps.cli import main; main()", *arguments]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=settings, timeout=120, check=False)


def test_program_on_a_plain_terminal(folder, scene):
    done = program("ask", scene, "how many?", "--model", folder, "--json", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["total"] == 16


def test_program_refuses_in_one_line():
    done = program("ask", "none.png", "why?", "--model", "nobody/nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "foveate: There is no image none.png: check the path.\n"


def test_help_does_not_wait_for_torch():
    code = "import sys; from foveate.apps import cli; print(not {'torch', 'transformers'}.isdisjoint(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
