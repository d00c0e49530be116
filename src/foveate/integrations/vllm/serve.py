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
from foveate.integrations.vllm.loading import to_engine_options
from foveate.runtime.load import BUNDLED, locate
from foveate.runtime.load_options import LoadOptions

PLAIN = LoadOptions()
ADAPTER = "foveate.integrations.vllm.middleware.RequestAdapter"


def make_command(
    model: str, further: Sequence[str] = (), loading: LoadOptions = PLAIN, *, max_frames: int | None = None,
    **settings: Any,
) -> list[str]:  # fmt: skip
    """The `vllm serve` command for this model, with its `overrides` and further options of vLLM.

    `max_frames` of a video are shown, evenly in time; with 0 videos are refused. Raises a `FoveateError` for a model or
    settings that cannot be used.
    """
    if any(option.split("=")[0] == "--hf-overrides" for option in further):
        raise InputError("foveate writes --hf-overrides itself: leave it out, or call `vllm serve` with your own.")
    mapped = {f"--{name}": str(value) for name, value in to_engine_options(loading).items()}
    mapped |= {} if max_frames is None else dict([to_video_option(max_frames)])
    twice = sorted(mapped.keys() & {option.split("=")[0] for option in further})
    if twice:
        raise InputError(f"{twice[0]} is set twice, for foveate and for vLLM: leave one of them out.")
    options = [word for pair in mapped.items() for word in pair]
    named = ["--served-model-name", model] if model in BUNDLED and "--served-model-name" not in further else []
    return [
        "vllm",
        "serve",
        locate(model),
        "--hf-overrides",
        json.dumps(overrides(model, revision=loading.revision, **settings)),
        "--middleware",
        ADAPTER,
        *named,
        *options,
        *further,
    ]


def to_video_option(max_frames: int) -> tuple[str, str]:
    """vLLM's option, with its value, for so many frames of a video."""
    if not max_frames:
        return "--limit-mm-per-prompt", json.dumps({"video": 0})
    return "--media-io-kwargs", json.dumps({"video": {"num_frames": max_frames}})


def to_shell(command: Sequence[str]) -> str:
    """The command as one line for a shell."""
    return shlex.join(command)


def exec_command(command: Sequence[str], *, api_key: str | None = None) -> None:
    """Replace this process by vLLM. Raises `InputError` if vLLM is not installed.

    The key goes into the environment, since command lines are visible to other users.
    """
    require_vllm()
    program = Path(sys.executable).with_name(command[0])
    sys.stdout.flush()
    key = {} if api_key is None else {"VLLM_API_KEY": api_key}
    os.execve(program, [str(program), *command[1:]], {**os.environ, **key})
