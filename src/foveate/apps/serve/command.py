"""`foveate serve` behind the command line: what was typed, checked, as the settings of one engine or the other."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from foveate.errors import InputError

NAMES = {
    "body": "--max-body", "pixels": "--max-pixels", "images": "--max-images", "prompt": "--max-prompt-tokens",
    "new": "--max-new-tokens", "waiting": "--max-waiting", "fetch_from": "--fetch-from", "grace": "--grace",
}  # fmt: skip


def check_only_hf(options: Mapping[str, Any]) -> None:
    """Raise `InputError` for options that vLLM's server does not have."""
    given = [NAMES[name] for name, value in options.items() if value not in (None, [])]
    if given:
        raise InputError(f"{given[0]} is not for --engine vllm: give vLLM's own options (`vllm serve --help=all`).")


def check_only_vllm(further: Sequence[str], *, turn: str | None, show_only: bool) -> None:
    """Raise `InputError` for options that only vLLM has."""
    if further:
        raise InputError(f"No such option: {further[0]} (with --engine vllm it would be handed on to vLLM).")
    for option, given in (("--turn", turn is not None), ("--print", show_only)):
        if given:
            raise InputError(f"{option} is for --engine vllm alone: leave it out.")


def origin(text: str) -> str:
    """`https://host` or `http://host:port` in lower case. Raises `InputError` for anything else."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
        raise InputError(f"--fetch-from {text!r} is no place: give https://host, without a path.")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")


def serve_hf(
    model: str, prunes: Mapping[str, Any], own: Mapping[str, int | None], *, host: str, port: int, api_key: str | None,
    fetch_from: Sequence[str], grace: float | None,
) -> None:  # fmt: skip
    """Serve with transformers. Everything that can be wrong is said before the model is read."""
    from foveate.apps.serve.run import bind, require_serve

    require_serve()
    from foveate.apps.serve.run import serve_chat
    from foveate.apps.serve.settings import MEGAPIXEL, MIB, Limits, Settings
    from foveate.pipeline.prune import check_settings
    from foveate.runtime.load import load, quiet

    check_settings(**prunes)
    _check_key(api_key)
    if grace is not None and not math.isfinite(grace):
        raise InputError(f"--grace {grace} is no number of seconds: give one such as 30.")
    units = {"body": MIB, "pixels": MEGAPIXEL}
    given = {name: value * units.get(name, 1) for name, value in own.items() if value is not None}
    ends: dict[str, Any] = {} if grace is None else {"grace": grace}
    settings = Settings(
        **prunes, limits=Limits(**given), origins=tuple(map(origin, fetch_from)), api_key=api_key,
        **ends,
    )  # fmt: skip
    with bind(host, port) as listens, quiet():
        serve_chat(load(model), settings, listens)


def serve_vllm(
    model: str, further: Sequence[str], prunes: Mapping[str, Any], *, turn: str, show_only: bool, host: str, port: int,
    api_key: str | None,
) -> None:  # fmt: skip
    """Become `vllm serve`, or only print it."""
    from foveate.integrations.vllm import serve as vllm
    from foveate.runtime.load import quiet

    if further and not further[0].startswith("-"):
        raise InputError(f"{further[0]!r} is no option: name the model with --model.")
    _check_key(api_key)
    common = ["--host", host, "--port", str(port)]
    with quiet():
        line = vllm.make_command(model, [*common, *further], **prunes, turn=turn)
    print(vllm.to_shell(line))
    if not show_only:
        vllm.exec_command(line, api_key=api_key)
    elif api_key is not None:
        print("Note: the key is not shown: set VLLM_API_KEY to it before you run this line.", file=sys.stderr)


def _check_key(api_key: str | None) -> None:
    if api_key is not None and (not api_key.isascii() or not api_key.strip()):
        raise InputError("--api-key is empty or not ASCII: HTTP headers take neither.")
