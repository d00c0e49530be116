"""The settings that decide an answer, and their check before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from foveate.apps.budgets import describe_budget
from foveate.apps.encoder import WHOLE, EncoderOptions, check_method
from foveate.errors import InputError
from foveate.method import Method, resolve_any
from foveate.models.lookup import family
from foveate.pipeline.parts import check_encoder
from foveate.pipeline.settings import Keep, Positions, check_choices, check_settings
from foveate.runtime.load import BUNDLED, check_family, locate, read_config
from foveate.runtime.load_options import LoadOptions

BATCH = {"hf": 16, "vllm": 64}
"""The engines, and their default number of rows at a time."""


@dataclass(frozen=True)
class BatchSettings:
    """`model` is as in `load`; `keep`, `method` (a name) and `positions` are as in `prune_inputs`.

    `engine` is "hf" (transformers) or "vllm", whose `LLM` takes `options` too. `batch` rows are answered at a time,
    with at most `max_new_tokens` tokens each. `loading` are the options of `load`, `encoder` those of the encoder.
    """

    model: str
    keep: Keep
    method: str
    positions: Positions
    engine: str
    batch: int
    max_new_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)
    loading: LoadOptions = field(default_factory=LoadOptions)
    encoder: EncoderOptions = WHOLE

    @property
    def pruning(self) -> dict[str, Any]:
        """The settings of `prune_inputs`."""
        return {"keep": self.keep, "method": self.method, "positions": self.positions, **vars(self.encoder)}

    def make_absolute(self) -> BatchSettings:
        """The same settings for workers with another working directory."""
        folder = Path(self.model).expanduser()
        is_path = self.model not in BUNDLED and folder.is_dir()
        model = str(folder.absolute()) if is_path else self.model
        return replace(self, model=model, loading=self.loading.make_absolute())

    def to_record(self) -> dict[str, Any]:
        """The settings for a file of JSON, with a policy's fingerprint in its place."""
        return {**asdict(self), "keep": describe_budget(self.keep)}

    def check(self) -> None:
        """Raise a `FoveateError` for settings that cannot be used, as far as can be seen without weights."""
        check_choices(self.keep, self.positions, "image", ("image",), explain=False)
        method = resolve_any(self.method)
        check_method(self.encoder, method)
        if not isinstance(method, Method) and not isinstance(self.keep, (int, float)):
            raise InputError(f"A policy is not for {self.method}, which takes one budget: give --keep a number.")
        if self.engine not in BATCH:
            raise InputError(f"There is no engine {self.engine!r}: use {' or '.join(BATCH)}.")
        where = locate(self.model, self.loading.gguf_file)
        if self.engine == "hf":
            self.loading.check()
        config = read_config(where, self.loading)
        check_family(config, self.loading.gguf_file)
        if self.engine == "vllm":
            self._check_vllm()
        elif isinstance(method, Method):
            check_encoder(family(config.model_type), check_settings(**self.pruning))
        if self.options and self.engine != "vllm":
            raise InputError(f"The option {next(iter(self.options))!r} is vLLM's: use it with --engine vllm.")

    def _check_vllm(self) -> None:
        from foveate.integrations.vllm import overrides
        from foveate.integrations.vllm.engine import require_vllm
        from foveate.integrations.vllm.loading import join_options

        join_options(self.loading, self.options)
        overrides(self.model, **self.pruning, revision=self.loading.revision)
        require_vllm()
