"""The engines that answer: transformers and vLLM."""

from foveate.apps.batch.engines.base import BatchEngine
from foveate.apps.batch.settings import BatchSettings
from foveate.errors import FoveateError, ModelError


def open_engine(settings: BatchSettings) -> BatchEngine:
    """Load the model and let it answer once.

    Raises a `FoveateError` if the model cannot be loaded, or the settings do not fit it.
    """
    try:
        if settings.engine == "vllm":
            from foveate.apps.batch.engines.vllm import VllmEngine

            return VllmEngine(settings)
        from foveate.apps.batch.engines.transformers import TransformersEngine

        return TransformersEngine(settings)
    except FoveateError:
        raise
    except Exception as error:  # engines raise errors of any type
        raise ModelError(f"{settings.model} cannot be used with --engine {settings.engine}: {error!r}") from error
