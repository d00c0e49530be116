"""What decides an answer, and what of it can be refused before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foveate.errors import InputError
from foveate.method import resolve_any
from foveate.method.tokens import check_keep
from foveate.models.lookup import family
from foveate.pipeline.prune import Positions
from foveate.runtime.load import BUNDLED, locate, read_config

BATCH = {"hf": 16, "vllm": 64}
"""The engines, and how many rows each is given at a time unless the user says otherwise."""


@dataclass(frozen=True)
class Settings:
    """`keep`, `method` (a name) and `positions` are `prune_inputs`', `model` is as in `load`.

    `engine` is "hf" (transformers) or "vllm", whose `LLM` takes `options` too; `batch` rows are answered at a time, in
    at most `max_new_tokens` tokens.
    """

    model: str
    keep: int | float
    method: str
    positions: Positions
    engine: str
    batch: int
    max_new_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def anywhere(self) -> Settings:
        """The same for workers whose working directory is another."""
        folder = Path(self.model).expanduser()
        known = self.model in BUNDLED or not folder.is_dir()
        return self if known else replace(self, model=str(folder.absolute()))

    def check(self) -> None:
        """Raise a `FoveateError` for what cannot be used, as far as that shows without the model's weights."""
        check_keep(self.keep)
        resolve_any(self.method)
        if self.engine not in BATCH:
            raise InputError(f"There is no engine {self.engine!r}: use {' or '.join(BATCH)}.")
        family(read_config(locate(self.model)).model_type)
        if self.engine == "vllm":
            self._check_vllm()
        elif self.options:
            raise InputError(f"The option {next(iter(self.options))!r} is vLLM's: use it with --engine vllm.")

    def _check_vllm(self) -> None:
        from foveate.integrations.vllm import overrides
        from foveate.integrations.vllm.engine import require_vllm

        require_vllm()
        overrides(self.model, keep=self.keep, method=self.method, positions=self.positions)
