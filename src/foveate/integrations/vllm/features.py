"""Whole images after the encoder, so that another question about one of them needs no second pass of the encoder."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from vllm.logger import init_logger

from foveate.integrations.vllm.settings import EngineSettings
from foveate.runtime.byte_cache import ByteCache

logger = init_logger("vllm.foveate")  # vLLM shows notes of its own modules


class FeatureStore:
    """The features of the last images, by content, in the memory of the host.

    The workers of a tensor-parallel group see the same images in the same order, so all of them know the same ones.

    Args:
        max_bytes: Limit for all features together; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._cache = ByteCache(max_bytes)
        self.encoded = self.reused = 0  # images

    @property
    def bytes(self) -> int:
        """The size of all features."""
        return self._cache.bytes

    def read(self, keys: Sequence[str], encode: Callable[[list[int]], Sequence[Tensor]]) -> list[Tensor]:
        """The features (n, d) of each image, which must not be changed; known ones are in the memory of the host.

        Args:
            keys: The content of each image. One with an empty key is encoded for itself and not kept.
            encode: Encodes the images with these places among `keys`; called once at most.
        """
        names = [key or n for n, key in enumerate(keys)]
        ready = {name: rows for name in names if (rows := self._cache.get(name)) is not None}
        missing: dict[str | int, int] = {}
        for n, name in enumerate(names):
            if name not in ready:
                missing.setdefault(name, n)
        if missing:
            ready.update(zip(missing, encode(list(missing.values())), strict=True))
        for name, n in missing.items():
            if keys[n]:
                self._keep(keys[n], ready[name])
        self.encoded, self.reused = self.encoded + len(missing), self.reused + len(keys) - len(missing)
        return [ready[name] for name in names]

    def clear(self) -> None:
        """Forget all features."""
        self._cache.clear()

    def _keep(self, key: str, rows: Tensor) -> None:
        size = rows.numel() * rows.element_size()
        if size <= self._cache.max_bytes:
            is_part = rows.untyped_storage().nbytes() > size  # of a batch, all of which it would keep in memory
            self._cache.put(key, rows.detach().to("cpu", copy=is_part), size)


def make_store(vllm_config: Any, settings: EngineSettings) -> FeatureStore:
    """An empty store of this size; of none where vLLM does not name images by their content."""
    caches = vllm_config.model_config.multimodal_config.mm_processor_cache_gb, vllm_config.cache_config
    is_used = settings.max_bytes > 0 and bool(caches[0] or caches[1].enable_prefix_caching)
    if is_used:
        logger.info(
            "foveate keeps encoded images in the host's memory, up to %s GiB in each worker, beside the memory that "
            "vLLM profiles.",
            settings.feature_cache_gib,
        )
    else:
        logger.info("foveate keeps no encoded images: a further question about one encodes it again.")
    return FeatureStore(settings.max_bytes if is_used else 0)
