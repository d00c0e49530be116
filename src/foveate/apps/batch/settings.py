"""The settings that decide an answer, and their check before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foveate.errors import InputError
from foveate.method import resolve_any
from foveate.method.budget import check_keep
from foveate.pipeline.settings import Positions
from foveate.runtime.load import BUNDLED, check_family, locate, read_config
from foveate.runtime.load_options import LoadOptions

BATCH = {"hf": 16, "vllm": 64}
"""The engines, and their default number of rows at a time."""


@dataclass(frozen=True)
class BatchSettings:
    """`model` is as in `load`; `keep`, `method` (a name) and `positions` are as in `prune_inputs`.

    `engine` is "hf" (transformers) or "vllm", whose `LLM` takes `options` too. `batch` rows are answered at a time,
    with at most `max_new_tokens` tokens each. `loading` are the options of `load`.
    """

    model: str
    keep: int | float
    method: str
    positions: Positions
    engine: str
    batch: int
    max_new_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)
    loading: LoadOptions = field(default_factory=LoadOptions)

    def make_absolute(self) -> BatchSettings:
        """The same settings for workers with another working directory."""
        folder = Path(self.model).expanduser()
        is_path = self.model not in BUNDLED and folder.is_dir()
        model = str(folder.absolute()) if is_path else self.model
        return replace(self, model=model, loading=self.loading.make_absolute())

    def check(self) -> None:
        """Raise a `FoveateError` for settings that cannot be used, as far as can be seen without weights."""
        check_keep(self.keep)
        resolve_any(self.method)
        if self.engine not in BATCH:
            raise InputError(f"There is no engine {self.engine!r}: use {' or '.join(BATCH)}.")
        where = locate(self.model, self.loading.gguf_file)
        if self.engine == "hf":
            self.loading.check()
        check_family(read_config(where, self.loading), self.loading.gguf_file)
        if self.engine == "vllm":
            self._check_vllm()
        elif self.options:
            raise InputError(f"The option {next(iter(self.options))!r} is vLLM's: use it with --engine vllm.")

    def _check_vllm(self) -> None:
        from foveate.integrations.vllm import overrides
        from foveate.integrations.vllm.engine import require_vllm
        from foveate.integrations.vllm.loading import join_options

        join_options(self.loading, self.options)
        require_vllm()
        revision = self.loading.revision
        overrides(self.model, keep=self.keep, method=self.method, positions=self.positions, revision=revision)
