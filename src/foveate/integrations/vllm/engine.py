"""What the plug-in needs of vLLM: its version, the names that are used, and settings under which pruning is right."""

from __future__ import annotations

import importlib
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from packaging.version import Version

from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.integrations.vllm.settings import FIELD, EngineSettings, VllmSettings

TESTED = ("0.32", "0.33")  # from the first, below the second
READ = "0.33"  # the newest whose source was compared, name by name, with that of a tested one
REQUIRED_NAMES = {
    "vllm.model_executor.models.config": ("MODELS_CONFIG_MAP", "VerifyAndUpdateConfig"),
    "vllm.model_executor.models.interfaces": ("SupportsMRoPE",),
    "vllm.multimodal": ("MULTIMODAL_REGISTRY",),
    "vllm.multimodal.hasher": ("MultiModalHasher",),
    "vllm.model_executor.models.utils": ("WeightsMapper",),
    "vllm.multimodal.inputs": (
        "MultiModalFeatureSpec",
        "MultiModalFieldConfig",
        "MultiModalKwargsItems",
        "PlaceholderRange",
    ),
    "vllm.multimodal.parse": ("ImageProcessorItems", "VideoProcessorItems"),
    "vllm.multimodal.processing": ("PromptReplacement", "PromptUpdateDetails"),
}
REQUEST = ("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionRequest")  # of the server alone
PROCESSOR_METHODS = (
    "apply",
    "get_dummy_inputs",
    "_apply_hf_processor_main",
    "_get_cache_missing_processor_kwargs",
    "_get_mm_fields_config",
    "_get_mm_hashes",
    "_get_prompt_updates",
)
"""The methods of `BaseMultiModalProcessor` that are overridden."""


def check_version() -> None:
    """Warn if this version of vLLM is untested; raise `ModelError` if it lacks a name that the plug-in needs."""
    missing = [
        f"{module}.{name}" for module, names in REQUIRED_NAMES.items() for name in names if not _has(module, name)
    ]
    if not missing:
        processor = importlib.import_module("vllm.multimodal.processing").BaseMultiModalProcessor
        missing = [f"BaseMultiModalProcessor.{name}" for name in PROCESSOR_METHODS if not hasattr(processor, name)]
    tested = f"vLLM {TESTED[0]} or later, below {TESTED[1]}"
    if missing:
        raise ModelError(f"This vLLM ({read_version()}) has no {missing[0]}, which foveate needs: install {tested}.")
    if not Version(TESTED[0]) <= Version(read_version()) < Version(TESTED[1]):
        warnings.warn(
            f"foveate was tested with {tested}, and this is {read_version()}. (Of {READ} the source was read.)",
            FoveateWarning,
            stacklevel=2,
        )


def read_request_types() -> dict[str, Any]:
    """A pydantic `TypeAdapter` for each field of a chat request to vLLM's server. Raises `ModelError` without it."""
    from pydantic import TypeAdapter

    if not _has(*REQUEST):
        raise ModelError(f"This vLLM ({read_version()}) has no {'.'.join(REQUEST)}: install vLLM {TESTED[0]}.")
    request = getattr(importlib.import_module(REQUEST[0]), REQUEST[1])
    return {name: TypeAdapter(field.annotation) for name, field in request.model_fields.items()}


def require_vllm() -> None:
    """Raise `InputError` if vLLM is not installed in foveate's environment."""
    if find_spec("vllm") is None:
        raise InputError(
            "vLLM is not installed in this environment: pip install 'foveate[vllm]', or leave out --engine vllm."
        )


def read_version() -> str:
    """The version of vLLM. Some builds are installed under another distribution name."""
    try:
        return version("vllm")
    except PackageNotFoundError:
        return str(importlib.import_module("vllm").__version__)


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


def add_config_checks(stock: str, pruned: str) -> None:
    """Let vLLM check the configuration of a pruned and of a stock architecture with the two classes below.

    Does nothing if this vLLM has no table of such checks: the model classes raise when they are used.
    """
    config = importlib.import_module("vllm.model_executor.models.config")
    if hasattr(config, "MODELS_CONFIG_MAP"):
        config.MODELS_CONFIG_MAP[pruned] = PrunedModelChecks
        config.MODELS_CONFIG_MAP.setdefault(stock, StockModelChecks)


class PrunedModelChecks:
    """Called by vLLM with the configuration of a model that prunes, before anything is loaded."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Check the settings, and make the engine carry M-RoPE positions (three axes) for every model.

        With M-RoPE, the model says where the text after an image goes on: behind the whole, unpruned image.
        Raises a `FoveateError` for settings that cannot be used.
        """
        check_version()
        config = model_config.hf_config
        VllmSettings.from_config(config)
        EngineSettings.from_config(config)
        if not model_config.uses_mrope:
            config.mrope_section = [1, 1, 1]  # only the engine reads it here; the decoder's own RoPE is unchanged

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Raise `ModelError` for an engine setting under which kept tokens would lose their positions."""
        parallel, multimodal = vllm_config.parallel_config, vllm_config.model_config.multimodal_config
        lora = vllm_config.lora_config
        refused = {
            "pipeline parallelism (--pipeline-parallel-size)": parallel.pipeline_parallel_size > 1,
            "context parallelism": getattr(parallel, "prefill_context_parallel_size", 1) > 1,
            "dual batch overlap (--enable-dbo)": getattr(parallel, "enable_dbo", False),
            "speculative decoding (--speculative-config)": vllm_config.speculative_config is not None,
            "LoRA on the vision tower": getattr(lora, "enable_tower_connector_lora", False),
            "vLLM's own pruning of videos": multimodal.is_multimodal_pruning_enabled(),
            f'"{FIELD}" in --mm-processor-kwargs': FIELD in (multimodal.mm_processor_kwargs or {}),
        }
        for setting, is_on in refused.items():
            if is_on:
                raise ModelError(f"foveate inside vLLM does not work with {setting}: start vLLM without it.")


class StockModelChecks:
    """Called by vLLM with the configuration of a stock model."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Raise `InputError` if there are settings for pruning, which a stock model would ignore."""
        if hasattr(model_config.hf_config, FIELD):
            raise InputError(
                f'"{FIELD}" is set, but the stock architecture does not prune: put "architectures": '
                f'["Foveate{model_config.architecture}"] beside it, or let `foveate serve` write both.'
            )

    verify_and_update_config = staticmethod(lambda _: None)  # nothing more to check
