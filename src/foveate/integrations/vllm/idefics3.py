"""Idefics3: tiles behind marks with their row and column, then the whole image."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models import idefics3
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.marked import MarkedProcessor, PrunedTiledModel


class PrunedIdefics3Processor(MarkedProcessor, idefics3.Idefics3MultiModalProcessor):
    """`Idefics3MultiModalProcessor`."""

    def count_image_tokens(self, size: Any) -> int:
        """The tokens of the tiles and of what is written around them."""
        processor, pixels = self.info.get_hf_processor(), {"image_width": size.width, "image_height": size.height}
        text = self.info.get_image_repl(**pixels, processor=processor, mm_kwargs={})
        return len(self.info.get_tokenizer().encode(text, add_special_tokens=False))


@MULTIMODAL_REGISTRY.register_processor(
    PrunedIdefics3Processor, info=idefics3.Idefics3ProcessingInfo, dummy_inputs=idefics3.Idefics3DummyInputsBuilder
)
class PrunedIdefics3(PrunedTiledModel, idefics3.Idefics3ForConditionalGeneration):
    """`Idefics3ForConditionalGeneration`."""

    counts = "num_patches"
