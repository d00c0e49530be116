"""`foveate serve`: checks its options, and starts the server of the selected engine."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from foveate.apps.encoder import EncoderOptions
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

HF_OPTIONS = {
    "body": "--max-body", "pixels": "--max-pixels", "images": "--max-images",
    "prompt": "--max-prompt-tokens",
    "new": "--max-new-tokens", "waiting": "--max-waiting",
    "fetch_from": "--fetch-from", "grace": "--grace", "allowed_host": "--allowed-host",
    "log_json": "--log-json",
}  # fmt: skip


def refuse_hf_options(options: Mapping[str, Any]) -> None:
    """Raise `InputError` if options are set that vLLM's server does not have."""
    values = {name: value for name, value in options.items() if name in HF_OPTIONS and value is not False}
    names = [HF_OPTIONS[name] for name, value in values.items() if value not in (None, [])]
    if names:
        raise InputError(f"{names[0]} is not for --engine vllm: use vLLM's own options (`vllm serve --help=all`).")


def refuse_vllm_options(further: Sequence[str], *, turn: str | None, reuse: str | None, show_only: bool) -> None:
    """Raise `InputError` if options are set that only vLLM has."""
    if further:
        raise InputError(f"No such option: {further[0]} (with --engine vllm it would be passed on to vLLM).")
    for option, is_set in (("--turn", turn is not None), ("--reuse", reuse is not None), ("--print", show_only)):
        if is_set:
            raise InputError(f"{option} is for --engine vllm only: leave it out.")


def parse_origin(text: str) -> str:
    """`https://host` or `http://host:port` in lower case. Raises `InputError` for anything else."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
        raise InputError(f"--fetch-from {text!r} is not an origin: give https://host, without a path.")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}" + (f":{port}" if port is not None else "")


def serve_hf(
    model: str, pruning: Mapping[str, Any], limits: Mapping[str, int | None], loading: LoadOptions, *,
    encoder: EncoderOptions, host: str, port: int, api_key: str | None, fetch_from: Sequence[str] | None,
    allowed_host: Sequence[str] | None, grace: float | None, log_json: bool,
) -> None:  # fmt: skip
    """Serve with transformers. Wrong options raise before the model is loaded."""
    from foveate.apps.serve.run import bind, require_serve

    require_serve()
    from foveate.apps.serve.hosts import parse_allowed_host
    from foveate.apps.serve.run import serve_chat
    from foveate.apps.serve.settings import MEGAPIXEL, MIB, ServeLimits, ServeSettings
    from foveate.apps.serve.videos import check_frames
    from foveate.pipeline.settings import check_settings
    from foveate.runtime.load import load, quiet

    check_settings(**pruning, **vars(encoder))
    _check_key(api_key)
    if grace is not None and not math.isfinite(grace):
        raise InputError(f"--grace {grace} is not a number of seconds: give one such as 30.")
    units = {"body": MIB, "pixels": MEGAPIXEL, "cache": MIB}
    bounds = ServeLimits(**{name: value * units.get(name, 1) for name, value in limits.items() if value is not None})
    grace, origins = ServeSettings.grace if grace is None else grace, tuple(map(parse_origin, fetch_from or ()))
    settings = ServeSettings(
        **pruning, encoder=encoder, limits=bounds, origins=origins,
        allowed_hosts=tuple(map(parse_allowed_host, allowed_host or ())), api_key=api_key, grace=grace,
    )  # fmt: skip
    with bind(host, port) as listener, quiet():
        loaded = load(model, **vars(loading))
        settings.check(loaded.model)
        check_frames(loaded, bounds)
        serve_chat(loaded, settings, listener, host=host, log_json=log_json)


def serve_vllm(
    model: str, further: Sequence[str], pruning: Mapping[str, Any], loading: LoadOptions, *,
    show_only: bool, host: str, port: int, api_key: str | None,
) -> None:  # fmt: skip
    """Replace this process by `vllm serve`, or only print its command line."""
    from foveate.integrations.vllm import serve as vllm
    from foveate.runtime.load import quiet

    if further and not further[0].startswith("-"):
        raise InputError(f"{further[0]!r} is no option: name the model with --model.")
    _check_key(api_key)
    common = ["--host", host, "--port", str(port)]
    with quiet():
        line = vllm.make_command(model, [*common, *further], loading, **pruning)
    print(vllm.to_shell(line))
    if not show_only:
        vllm.exec_command(line, api_key=api_key)
    elif api_key is not None:
        print("Note: the key is not printed: set VLLM_API_KEY to it before you run this command.", file=sys.stderr)


def _check_key(api_key: str | None) -> None:
    if api_key is not None and (not api_key.isascii() or not api_key.strip()):
        raise InputError("--api-key is empty or not ASCII: HTTP headers allow neither.")
