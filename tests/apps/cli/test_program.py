"""The command line as a program of its own."""

import json
import os
import subprocess
import sys


def run_program(*arguments, **environment):
    command = [sys.executable, "-c", "from foveate.apps.cli import main; main()", *arguments]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=settings, check=False)


def test_program_on_a_plain_terminal(folder, scene):
    done = run_program("ask", scene, "how many?", "--model", folder, "--json", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["total"] == 16


def test_program_refuses_in_one_line():
    done = run_program("ask", "none.png", "why?", "--model", "nobody/nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "foveate: There is no image none.png: check the path.\n"


def test_help_does_not_wait_for_torch():
    code = "import sys; from foveate.apps import cli; print(not {'torch', 'transformers'}.isdisjoint(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_output_that_cannot_be_written():
    """A full disk is one sentence; a reader that leaves, as `head` does, is none."""
    code = "from foveate.apps.cli import main; main(['--help'])"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("foveate: Standard output, or a file, cannot be read or written (No space left on")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{code}" >&-'], capture_output=True, check=False)
    assert done.stderr == b""
