import json
import platform

import torch
import transformers
from typer.testing import CliRunner

import foveate
from foveate.apps import cli
from foveate.conformance import laws
from foveate.conformance.laws import LawResult


def test_methods(run):
    code, out, _ = run("methods")
    assert code == 0
    assert all(row.name in out for row in foveate.methods())
    assert "cls_attention" in out
    assert "…" not in out  # nothing is cut in 80 columns
    code, out, _ = run("methods", "--json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    assert {"name", "paper", "summary", "prompt_aware", "needs", "prunes"} == set(rows[0])
    assert {row["name"]: row["needs"] for row in rows}["visionzip"] == ["cls_attention", "keys"]


def test_families(run):
    rows = json.loads(run("families", "--json")[1])
    assert {"llava", "qwen2_5_vl", "qwen3_vl"} <= {row["model_type"] for row in rows}
    assert "M-RoPE" in run("families")[1]
    assert max(len(line) for line in run("families")[1].splitlines()) <= 80
    names = [row["model_type"] for row in json.loads(run("families", "Qwen", "--json")[1])]
    assert names == [row["model_type"] for row in rows if "qwen" in row["model_type"]]
    assert len(names) > 4


def test_families_of_no_such_name(refuse):
    assert "No model type of transformers has 'nothing' in it" in refuse("families", "nothing")


def test_version_and_help(run):
    versions = f"foveate {foveate.__version__}, torch {torch.__version__}, transformers {transformers.__version__}\n"
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out == f"python {platform.python_version()}, {versions}"
    for arguments in ([], ["--help"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert all(command in out for command in ("ask", "bench", "methods", "families", "doctor"))
        assert "Exit codes: 0 all is well;" in out
        assert "--install-completion" in out
    assert "1 is one token" in " ".join(run("ask", "--help")[1].split())


def test_the_app_itself():
    result = CliRunner().invoke(cli.app, ["methods", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)


def test_doctor_on_a_model(run, folder):
    code, out, _ = run("doctor", "--model", folder, "--json")
    summary = json.loads(out.splitlines()[-1])
    assert code == 0
    assert summary["passed"] is True
    assert summary["versions"]["torch"] == torch.__version__
    assert len(summary["laws"]) > 3
    assert all(f"pass  {folder}: {law['name']}" in out for law in summary["laws"])
    (read,) = [law["figure"] for law in summary["laws"] if law["name"] == "own processor, 1000 x 400 pixels"]
    assert read == "16 visual tokens (1 x 4 x 4), question read as 'What color is the star?'"


def test_doctor_names_what_fails(run, monkeypatch):
    of_all = [("one", "holds", "0"), ("two", "violated", "1"), ("three", "error", "ValueError: a\nb")]
    results = [LawResult(*law) for law in of_all]
    monkeypatch.setattr(laws, "check_family", lambda model_type: results)
    code, out, err = run("doctor", "--json")
    assert (code, err) == (1, "")
    assert "pass  llava: one: 0\n" in out
    assert "FAIL  llava: two: 1\n" in out
    assert "FAIL: the logits of a pruned prompt differ from those of the model with these tokens masked" in out
    assert "ERROR  llava: three: ValueError: a b\n" in out
    summary = json.loads(out.splitlines()[-1])
    assert summary["passed"] is False
    assert [(law["passed"], law["status"]) for law in summary["laws"][:3]] == [
        (True, "holds"), (False, "violated"), (False, "error"),
    ]  # fmt: skip


def test_doctor_on_one_family(run, refuse):
    code, out, _ = run("doctor", "--family", "llava")
    assert code == 0
    assert out.splitlines()[1] == "llava (1 of 1)"
    assert all(line.startswith("pass  llava: ") for line in out.splitlines()[2:-1])
    assert "'nothing' are not supported" in refuse("doctor", "--family", "nothing")
    assert "--model and --family are two checks" in refuse("doctor", "--family", "llava", "--model", "bundled")


def test_doctor_refuses_a_missing_model(refuse):
    assert "There is no folder" in refuse("doctor", "--model", "/no/such/model")
