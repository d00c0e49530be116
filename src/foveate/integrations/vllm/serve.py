"""The command line with which vLLM serves a pruned model."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.errors import InputError
from foveate.integrations.vllm import overrides
from foveate.integrations.vllm.engine import require_vllm
from foveate.runtime.load import BUNDLED, locate


def command(model: str, further: Sequence[str] = (), **settings: Any) -> list[str]:
    """`vllm serve` for this model, with the `overrides` that these settings make and further options of vLLM.

    Raises a `FoveateError` for a model or settings that cannot be used.
    """
    if any(option.split("=")[0] == "--hf-overrides" for option in further):
        raise InputError("foveate writes --hf-overrides itself: leave it out, or call `vllm serve` with its own.")
    named = ["--served-model-name", model] if model in BUNDLED and "--served-model-name" not in further else []
    asked = json.dumps(overrides(model, **settings))
    return ["vllm", "serve", locate(model), "--hf-overrides", asked, *named, *further]


def shown(command: Sequence[str]) -> str:
    """As a shell takes it."""
    return shlex.join(command)


def run(command: Sequence[str], *, api_key: str | None = None) -> None:
    """Become vLLM. Raises `InputError` where it is not installed beside foveate.

    The key goes where the list of processes does not show it.
    """
    require_vllm()
    program = Path(sys.executable).with_name(command[0])
    sys.stdout.flush()
    key = {} if api_key is None else {"VLLM_API_KEY": api_key}
    os.execve(program, [str(program), *command[1:]], {**os.environ, **key})
