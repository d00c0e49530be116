"""Models that take images as flattened patches, as Qwen-VL does: what is different in each."""

from dataclasses import replace
from typing import Any

from foveate.models.base import Features, Grids, Inputs, Masks
from foveate.models.patch_encoder import PatchEncoder
from foveate.models.patches import Patches, Timestamped
from foveate.models.qwen_vl import Qwen3VL


class Exaone45(PatchEncoder, Patches):
    """EXAONE 4.5; 1-D RoPE in windowed layers, dynamic resolution; generate numbers kept tokens anew.

    The attention window counts kept tokens.

    Its `generate` throws position ids away and numbers the tokens that it receives: there kept tokens move together,
    whatever `positions` says. `forward` keeps them.
    """

    traits = replace(
        Patches.traits,
        note="generate of EXAONE 4.5 numbers the kept tokens anew, whatever positions says; forward does not.",
    )


class HyperCLOVAXVisionV2(PatchEncoder, Patches):
    """HyperCLOVA X SEED Think; 1-D RoPE, dynamic resolution; generate numbers kept tokens anew.

    Its `generate` throws position ids away and numbers the tokens that it receives: there kept tokens move together,
    whatever `positions` says. `forward` keeps them.
    """

    traits = replace(
        Patches.traits,
        note="generate of HyperCLOVA X numbers the kept tokens anew, whatever positions says; forward does not.",
    )

    def vision_tower(self, model: Any) -> Any:
        """Under another name."""
        return model.base_model.vision_model


class Ernie45VL(Patches):
    """ERNIE 4.5 VL; M-RoPE, dynamic resolution, videos merge two frames, experts for text and for vision.

    `moe_mm_token_type_ids` lose the same tokens as the prompt.
    """

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Videos have half their frames."""
        merge = config.vision_config.temporal_merge_size if modality == "video" else 1
        grids = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0] // merge, *grid[1:]) for grid in grids]


class PaddleOCRVL(Patches):
    """PaddleOCR-VL; M-RoPE, dynamic resolution."""

    traits = replace(Patches.traits, modalities=("image",))


class CohereCompass(PatchEncoder, Timestamped):
    """Cohere Compass; M-RoPE, windowed layers, DeepStack, a timestamp before every frame."""


class Cosmos3Edge(Timestamped):
    """Cosmos3 Edge; M-RoPE, dynamic resolution, a timestamp before every frame."""

    traits = replace(Timestamped.traits, versions=">=5.23")


class Cosmos3Omni(Qwen3VL):
    """Cosmos3 Omni's reasoner, as Qwen3-VL; M-RoPE, DeepStack, a timestamp before every frame."""

    traits = replace(Qwen3VL.traits, in_decoder=False)


class HYV4VL(Patches):
    """HY-V4-VL; M-RoPE, dynamic resolution, newline tokens stay, sparse attention with an indexer."""

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """With a column of newlines; None where the inputs do not say."""
        if inputs.get(f"{modality}_grid_thw") is None:
            return [None] * len(features)
        grids = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0], grid[1], grid[2] + 1) for grid in grids]

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """Newlines, the last of each row."""
        newline = model.base_model.vision_tower.patch_merger.image_newline
        return [(feature == newline.to(feature)).all(-1) for feature in features]


class KimiK25(Patches):
    """Kimi K2.5; 1-D RoPE, latent attention, dynamic resolution, a timestamp before every chunk of a video.

    A budget of videos is one of each chunk: no input tells where a video ends.
    """

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """As stock, but one by one: transformers 5.23 fails on chunks of several frames and of different lengths."""
        if modality == "image" or (inputs.get("mm_encoder_outputs") or {}).get(modality) is not None:
            return super().encode(model, inputs, modality)
        core, thw = model.base_model, inputs["video_grid_thw"]
        chunks = inputs["pixel_values_videos"].split(thw.prod(-1).tolist())
        outputs = [core.vision_tower(chunk, grid_thw=one[None]) for chunk, one in zip(chunks, thw, strict=True)]
        tokens = [core.mm_projector(output.pooler_output).squeeze(1) for output in outputs]
        return type(outputs[0])(pooler_output=tokens)

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """One frame for each chunk."""
        height, width = config.vision_config.merge_kernel_size
        thw = inputs.get(f"{modality}_grid_thw")
        return [None] * len(features) if thw is None else [(1, h // height, w // width) for _, h, w in thw.tolist()]


class Dots3Note(PatchEncoder, Patches):
    """dots3-note, mixture of experts; 1-D RoPE, dynamic resolution, sparse attention; audio too.

    The budget of an audio is for every chunk of a minute.

    The local windows, and the keys that the sparse layers pick, count kept tokens.
    """

    traits = replace(Patches.traits, modalities=("image", "video", "audio"))

    def vision_tower(self, model: Any) -> Any:
        """Under another name."""
        return model.base_model.vision_tower

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all chunks of audio in one row."""
        encoded = super().encode(model, inputs, modality)
        if modality == "audio":
            each = model.config.audio_config.samples_per_token
            encoded.pooler_output = encoded.pooler_output.split((-(-inputs["chunk_sample_lengths"] // each)).tolist())
        return encoded


DROPPED = "video_compression_mask"


class VideoLlama3(Timestamped):
    """VideoLLaMA3; 1-D RoPE, dynamic resolution, videos after the processor's own compression."""

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """The compression mask goes with the videos."""
        own = super().encoder_inputs(model, inputs, modality)
        return own | {DROPPED: inputs[DROPPED]} if modality == "video" and inputs.get(DROPPED) is not None else own

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The forward drops the tokens that the mask leaves out only later."""
        encoded = super().encode(model, {n: v for n, v in inputs.items() if n != DROPPED}, modality)
        if modality == "image" or inputs.get(DROPPED) is None:
            return encoded
        stays = inputs[DROPPED].split([len(video) for video in encoded.pooler_output])
        videos = [video[own.to(video.device)] for video, own in zip(encoded.pooler_output, stays, strict=True)]
        return type(encoded)(**{**encoded, "pooler_output": videos})

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Where no token was left out."""
        merges, thw = inputs.get(f"{modality}_merge_sizes"), inputs.get(f"{modality}_grid_thw")
        if merges is None or thw is None:
            return [None] * len(features)
        whole = [(t, h // m, w // m) for (t, h, w), m in zip(thw.tolist(), merges.tolist(), strict=True)]
        return [
            grid if len(feature) == grid[0] * grid[1] * grid[2] else None
            for grid, feature in zip(whole, features, strict=True)
        ]
