"""`foveate serve` and `foveate demo`."""

from typing import Annotated, Any

import typer

from foveate.apps import budgets
from foveate.apps.cli import options
from foveate.apps.cli.loading import takes_load_options
from foveate.apps.encoder import parse_encoder
from foveate.runtime.load_options import LoadOptions

ApiKey = Annotated[str | None, typer.Option(envvar="FOVEATE_API_KEY", help="Key that every request must carry.")]
FETCH = "A place to fetch images from, https://host; repeat it for more. Default: none."
HOSTS = "A further name of this server, such as that of a proxy in front of it; repeat it for more."
AllowedHost = Annotated[list[str] | None, typer.Option("--allowed-host", help=HOSTS)]
CACHE = "MiB of encoded images that are kept for further questions, 0 for none; default 256."
AUTO = "The file of a policy, for the slider's notch auto; default: the policy that comes with the model."
FRAMES = "Frames of a video that are shown; 0: videos are refused. Default 0, with vLLM its own (32)."
LOG = "Write the log of requests as lines of JSON."
LogJson = Annotated[bool, typer.Option("--log-json", help=LOG)]
TURN = (
    "vLLM: the question is the user's last turn (last), or the turn of the image (own), which keeps the cache of a "
    "chat; default last."
)
REUSE = (
    "vLLM: tokens are chosen for each question (question), once without it (picture), which all questions of an image "
    "share, or so from its second question on (auto); default question."
)


@options.app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@takes_load_options
def serve(
    context: typer.Context,
    model: options.Model = "bundled",
    keep: Annotated[str, typer.Option(help="As in `ask`; a request may ask for another.")] = "0.1",
    encode: options.Encode = "1.0",
    skip: options.Skip = None,
    max_encoder_memory: options.EncoderMemory = None,
    method: options.MethodName = "foveate",
    positions: options.Positions = options.PositionsChoice.original,
    engine: options.Engine = options.EngineChoice.hf,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    api_key: ApiKey = None,
    fetch_from: Annotated[list[str] | None, typer.Option(help=FETCH)] = None,
    allowed_host: AllowedHost = None,
    max_body: Annotated[int | None, typer.Option(min=1, help="MiB of a request; default 20.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, max=89, help="Megapixels of its images; default 50.")] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="Images of a conversation; default 16.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=0, help=FRAMES)] = None,
    max_prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Unpruned prompt tokens; default any.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of an answer; default 1024.")] = None,
    max_waiting: Annotated[int | None, typer.Option(min=0, help="Waiting requests; default 32.")] = None,
    image_cache: Annotated[int | None, typer.Option(min=0, help=CACHE)] = None,
    grace: Annotated[float | None, typer.Option(min=0, help="Seconds to finish requests; default 30.")] = None,
    log_json: LogJson = False,
    turn: Annotated[str | None, typer.Option(help=TURN)] = None,
    reuse: Annotated[str | None, typer.Option(help=REUSE)] = None,
    show_only: Annotated[bool, typer.Option("--print", help="vLLM: print its command line and stop.")] = False,
    *,
    loading: LoadOptions,
) -> None:
    """Serve a model over the OpenAI protocol with its images pruned; with vLLM, other options go to vLLM."""
    prunes: dict[str, Any] = {"keep": budgets.parse_budget(keep), "method": method, "positions": positions.value}
    encoder = parse_encoder(encode, skip, max_encoder_memory)
    from foveate.apps.serve import command

    limits = {"body": max_body, "pixels": max_pixels, "images": max_images, "prompt": max_prompt_tokens}
    limits |= {"new": max_new_tokens, "waiting": max_waiting}
    address: dict[str, Any] = {"host": host, "port": port, "api_key": api_key}
    hf: dict[str, Any] = {"fetch_from": fetch_from, "allowed_host": allowed_host, "grace": grace, "log_json": log_json}
    if engine is options.EngineChoice.vllm:
        command.refuse_hf_options({**limits, **hf})
        prunes |= {**vars(encoder), "turn": turn or "last", "reuse": reuse or "question", "max_frames": max_frames}
        prunes |= {} if image_cache is None else {"feature_cache_gib": image_cache / 1024}
        command.serve_vllm(model, context.args, prunes, loading, show_only=show_only, **address)
    else:
        command.refuse_vllm_options(context.args, turn=turn, reuse=reuse, show_only=show_only)
        limits |= {"frames": max_frames, "cache": image_cache}
        command.serve_hf(model, prunes, limits, loading, encoder=encoder, **address, **hf)


@options.app.command()
@takes_load_options
def demo(
    model: options.Model = "bundled",
    host: options.Host = "127.0.0.1",
    port: options.Port = 7860,
    allowed_host: AllowedHost = None,
    policy: Annotated[str | None, typer.Option(help=AUTO, metavar="FILE")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    *,
    loading: LoadOptions,
) -> None:
    """Show a page: drop an image, ask a question, move a slider, and see which tokens are kept."""
    from foveate.apps.serve.run import bind, require_serve

    require_serve()
    from foveate.apps.demo.app import serve_demo
    from foveate.apps.serve.hosts import parse_allowed_host
    from foveate.policy import Policy
    from foveate.runtime.load import load, quiet

    allowed = [parse_allowed_host(name) for name in allowed_host or []]
    chosen = None if policy is None else Policy.load(policy)
    with bind(host, port) as listens, quiet():
        loaded = load(model, **vars(loading))
        serve_demo(loaded, listens, policy=chosen, host=host, allowed_hosts=allowed, open_browser=open_browser)
