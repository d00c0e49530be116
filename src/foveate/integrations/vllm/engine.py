"""What is asked of vLLM itself: its version, the hooks that are used, and settings under which pruning is right."""

from __future__ import annotations

import importlib
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from packaging.version import Version

from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.integrations.vllm.settings import FIELD, Settings

TESTED = ("0.32", "0.33")  # from the first, below the second
HOOKS = {
    "vllm.model_executor.models.config": ("MODELS_CONFIG_MAP", "VerifyAndUpdateConfig"),
    "vllm.model_executor.models.interfaces": ("SupportsMRoPE",),
    "vllm.multimodal": ("MULTIMODAL_REGISTRY",),
    "vllm.multimodal.hasher": ("MultiModalHasher",),
    "vllm.multimodal.inputs": ("MultiModalFieldConfig",),
    "vllm.multimodal.parse": ("ImageEmbeddingItems", "ImageProcessorItems"),
    "vllm.multimodal.processing": ("PromptReplacement",),
}
METHODS = (
    "apply", "get_dummy_inputs", "_apply_hf_processor_main", "_get_cache_missing_processor_kwargs",
    "_get_mm_fields_config", "_get_mm_hashes", "_get_prompt_updates",
)  # fmt: skip
"""Of `BaseMultiModalProcessor`."""


def check_version() -> None:
    """Warn of a vLLM that nobody tried; raise `ModelError` where it lacks something that pruning stands on."""
    lacks = [f"{module}.{name}" for module, names in HOOKS.items() for name in names if not _has(module, name)]
    if not lacks:
        processor = importlib.import_module("vllm.multimodal.processing").BaseMultiModalProcessor
        lacks = [f"BaseMultiModalProcessor.{name}" for name in METHODS if not hasattr(processor, name)]
    tested = f"vLLM {TESTED[0]} or later, below {TESTED[1]}"
    if lacks:
        raise ModelError(f"This vLLM ({installed()}) has no {lacks[0]}, which foveate needs: install {tested}.")
    if not Version(TESTED[0]) <= Version(installed()) < Version(TESTED[1]):
        warnings.warn(f"foveate was tested with {tested}, and this is {installed()}.", FoveateWarning, stacklevel=2)


def require_vllm() -> None:
    """Raise `InputError` where vLLM is not installed beside foveate."""
    if find_spec("vllm") is None:
        raise InputError(
            "vLLM is not installed beside foveate: pip install 'foveate[vllm]', or do without --engine vllm."
        )


def installed() -> str:
    """The version of vLLM, which some builds call by other names."""
    try:
        return version("vllm")
    except PackageNotFoundError:
        return str(importlib.import_module("vllm").__version__)


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


def hook(stock: str, pruned: str) -> None:
    """Let vLLM check and complete the configuration of a pruned architecture with `Check`, of a stock one with `Stock`.

    Where vLLM has no such hook any more, nothing is hooked: the classes themselves raise once they are used.
    """
    config = importlib.import_module("vllm.model_executor.models.config")
    if hasattr(config, "MODELS_CONFIG_MAP"):
        config.MODELS_CONFIG_MAP[pruned] = Check
        config.MODELS_CONFIG_MAP.setdefault(stock, Stock)


class Check:
    """Called by vLLM with the configuration of a model that is to be pruned, before anything is loaded."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Raise a `FoveateError` for settings that cannot be used; let the engine carry positions of three axes.

        The axes are how vLLM lets text go on, after a picture, from where the whole picture ended.
        """
        check_version()
        config = model_config.hf_config
        Settings.read(getattr(config, FIELD, None))
        if config.vision_config.model_type == "pixtral":
            raise ModelError("foveate does not prune Pixtral inside vLLM: use transformers.")
        if not model_config.uses_mrope:
            config.mrope_section = [1, 1, 1]  # read off the top by the engine alone; the decoder's rope stays as it is

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Raise `ModelError` for a way to run the engine in which kept tokens would lose their places."""
        parallel, multimodal = vllm_config.parallel_config, vllm_config.model_config.multimodal_config
        lora = vllm_config.lora_config
        refused = {
            "pipeline parallelism (--pipeline-parallel-size)": parallel.pipeline_parallel_size > 1,
            "context parallelism": getattr(parallel, "prefill_context_parallel_size", 1) > 1,
            "dual batch overlap (--enable-dbo)": getattr(parallel, "enable_dbo", False),
            "speculative decoding (--speculative-config)": vllm_config.speculative_config is not None,
            "LoRA on the vision tower": getattr(lora, "enable_tower_connector_lora", False),
            "vLLM's own pruning of clips": multimodal.is_multimodal_pruning_enabled(),
            f'"{FIELD}" in --mm-processor-kwargs': FIELD in (multimodal.mm_processor_kwargs or {}),
        }
        for what, on in refused.items():
            if on:
                raise ModelError(f"foveate inside vLLM does not go together with {what}: start vLLM without it.")


class Stock:
    """Called by vLLM with the configuration of a stock model."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Raise `InputError` where pruning was asked for, and nothing would be pruned."""
        config = model_config.hf_config
        if hasattr(config, FIELD):
            raise InputError(
                f'"{FIELD}" is set, but the architecture is the stock one, which does not prune: put "architectures": '
                f'["Foveate{model_config.architecture}"] beside it, or let `foveate serve` write both.'
            )

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Nothing more."""
