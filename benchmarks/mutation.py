"""Mutation tests: mutmut changes one expression of a module at a time, and the module's tests have to fail.

    python benchmarks/mutation.py             # every module of MODULES
    python benchmarks/mutation.py scoring.py  # those whose path contains one of the arguments
    .venv/engine/bin/python benchmarks/mutation.py vllm  # those that need vLLM, by the Python that has it

Prints a row for benchmarks/mutation.md and the diffs of the survivors. Each module is tested in a copy of the working
tree below .venv/mutation, one mutant at a time, each in a fork of a process that has imported everything: 0.2 s of CPU
time per mutant that a fast test kills. Error texts are not mutated; mutmut skips constants and decorated functions.
mutmut is installed on first use, unless the environment variable MUTMUT names its folder.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".venv" / "mutation"
MUTMUT = Path(os.environ.get("MUTMUT", HOME / "mutmut"))
VERSION = "3.8.1"
RUN = "import sys; sys.path.append(sys.argv.pop(1)); from mutmut.__main__ import cli; cli()"
STATUS = {1: "killed", 3: "killed", 0: "survived", 5: "untested", 33: "untested", None: "not run"}  # exit codes

# A line per module below src/foveate: its tests. Those that call the mutated function run, the fastest first.
RULES = "tests/method/selection"
CHATS = "tests/pipeline/test_question.py tests/runtime/test_chat_template.py"
SHORTER = "tests/pipeline/test_shorten.py tests/pipeline/test_prompt_end.py tests/pipeline/test_prune.py"
ATTACHED = "tests/hooks/test_attach.py tests/hooks/test_chain.py tests/hooks/test_continuation.py"
ATTACHED += " tests/hooks/test_copies.py tests/hooks/test_trainers.py tests/hooks/test_drawn.py"
ATTACHED += " tests/hooks/test_callbacks.py -k 'not threads_prune and not qwen'"
OPTIONS = "tests/hooks/test_options.py -k 'not chunks_ and not drafts and not changes'"  # the others: every family
SCALES = "tests/method/test_scale.py -k 'ordinary or proportions or direction or gradients or weights or infinity'"
WRAPPED = "tests/models/test_wrappers.py -k 'not compiled and not lambda and not peft and not _adapter_ and not qwen'"
MODULES = {
    "method/budget.py": "tests/method/test_tokens.py",
    "method/checks.py": "tests/method/test_checks.py",
    "method/tokens.py": "tests/method/test_tokens.py",
    "method/scale.py": SCALES,
    "method/scoring.py": "tests/method/test_scoring.py",
    "method/selection/__init__.py": RULES,
    "method/selection/cosines.py": RULES,
    "method/selection/cover.py": RULES,
    "method/selection/farthest.py": RULES,
    "method/selection/loop.py": RULES,
    "method/selection/volume.py": RULES,
    "pipeline/budget.py": "tests/pipeline/test_budget.py",
    "pipeline/glance.py": "tests/pipeline/test_glance.py",
    "pipeline/pool.py": "tests/pipeline/test_pool.py",
    "pipeline/select.py": "tests/pipeline/test_select.py",
    "pipeline/question.py": "tests/pipeline/test_question.py",
    "models/framing.py": CHATS,
    "models/turns.py": "tests/models/test_turns.py",
    "models/chat_template.py": "tests/models/test_chat_template.py tests/runtime/test_chat_template.py",
    "runtime/chat_template.py": "tests/runtime/test_chat_template.py",
    "models/batch.py": "tests/models/test_batch.py",
    "models/placeholders.py": "tests/models/test_placeholders.py",
    "models/prompt_rows.py": "tests/models/test_prompt_rows.py",
    "models/tiling.py": "tests/models/test_tiling.py",
    "models/visual_input.py": "tests/models/test_visual_input.py",
    "models/sequence.py": "tests/models/test_sequence.py tests/pipeline/test_prune.py",
    "models/wrappers.py": WRAPPED,
    "pipeline/shorten.py": SHORTER,
    "hooks/attach.py": "tests/hooks/test_attach.py tests/hooks/test_decoder.py",
    "hooks/attention.py": "tests/hooks/test_attention.py",
    "hooks/call.py": "tests/hooks/test_call.py",
    "hooks/callbacks.py": "tests/hooks/test_callbacks.py",
    "hooks/chain.py": ATTACHED,
    "hooks/continuation.py": "tests/hooks/test_continuation.py",
    "hooks/record.py": "tests/hooks/test_record.py tests/hooks/test_continuation.py",
    "hooks/copies.py": "tests/hooks/test_copies.py",
    "hooks/decoder.py": "tests/hooks/test_decoder.py",
    "hooks/entry.py": "tests/hooks/test_entry.py",
    "hooks/generate.py": "tests/hooks/test_generate.py",
    "hooks/options.py": OPTIONS,
    "hooks/prompt.py": "tests/hooks/test_prompt.py",
    "hooks/slots.py": "tests/hooks/test_slots.py",
}
ENGINE = {
    "integrations/vllm/model.py": "tests/integrations/vllm/test_model.py tests/integrations/vllm/test_qwen.py",
    "integrations/vllm/qwen.py": "tests/integrations/vllm/test_qwen.py",
}


def prepare(module: str, tests: str) -> Path:
    """Copy the working tree, with mutmut's settings for this module."""
    work = HOME / module.removesuffix(".py").replace("/", ".")
    shutil.rmtree(work, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "src", "tests", "pyproject.toml"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]:
        if (ROOT / name).exists():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, work / name)
    settings = {
        "source_paths": ["src"],
        "only_mutate": [f"src/foveate/{module}"],
        "pytest_add_cli_args_test_selection": shlex.split(tests),
        "pytest_add_cli_args": ["-W", "ignore"] if module in ENGINE else [],  # vLLM warns when it is imported
        "timeout_multiplier": 2,  # some mutants loop for ever
        "timeout_constant": 10,  # seconds of wall clock: a busy machine kills no mutant
        "do_not_mutate_patterns": [r"raise \w+", r"warnings\.warn"],  # texts
    }
    with (work / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\nuse_git_change_detection = false\ntrack_dependencies = false\n")
        file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    return work


def mutmut(work: Path, *arguments: str) -> str:
    """Run mutmut in a copy; return what it prints."""
    command = [sys.executable, "-c", RUN, str(MUTMUT), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def test(module: str, tests: str) -> None:
    """Print the score of one module, and its survivors."""
    work, start = prepare(module, tests), time.monotonic()
    printed = mutmut(work, "run", "--max-children", "1")
    results = work / "mutants" / "src" / "foveate" / f"{module}.meta"
    codes = json.loads(results.read_text())["exit_code_by_key"] if results.exists() else {}
    if not any(code is not None for code in codes.values()):
        sys.exit(f"{module} was not tested: {printed[-3000:]}")
    count = Counter(STATUS.get(code, "crashed or timed out") for code in codes.values())
    killed, seconds = count["killed"] + count["crashed or timed out"], (time.monotonic() - start) / max(1, len(codes))
    score = f"{100 * killed / len(codes):.0f} %"
    print(f"| `{module}` | {len(codes)} | {killed} | {score} | {seconds:.1f} s | {dict(count)} |")
    for name, code in codes.items():
        if STATUS.get(code) in ("survived", "untested"):
            print(mutmut(work, "show", name), flush=True)


if __name__ == "__main__":
    if not MUTMUT.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--target", MUTMUT, f"mutmut=={VERSION}"], check=True
        )
    for module, tests in (ENGINE if find_spec("vllm") else MODULES).items():
        if not sys.argv[1:] or any(part in module for part in sys.argv[1:]):
            test(module, tests)
