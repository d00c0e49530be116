"""Images and videos as flattened patches with their grids, and the families that build on them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.inputs import find_modalities
from foveate.models.shared_placeholders import encoded_inputs, join_outputs
from foveate.models.visual_input import Grid, VisualInput

PATCH_GRIDS = {  # (t, h, w) in patches; merged tokens are a quarter of these with the usual 2 x 2 merge
    "image": ((1, 4, 6), (1, 6, 6), (1, 4, 4), (1, 8, 4), (1, 12, 20)),
    "video": ((2, 4, 4), (3, 4, 6)),
}


class TinyPatches(TinyFamily):
    """Tiny models of `Patches`."""

    patch_grids: ClassVar[Mapping[str, Sequence[tuple[int, int, int]]]] = PATCH_GRIDS
    """(t, h, w) of the images and videos in patches, in turn."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images and videos of different sizes."""
        shapes = self.patch_grids[modality]
        grids = [shapes[i % len(shapes)] for i in range(sum(rows))]
        count = sum(t * h * w for t, h, w in grids)
        pixels = torch.randn(count, *self.patch_shape(config), generator=rng)
        return {self.main_inputs[modality]: pixels, f"{modality}_grid_thw": torch.tensor(grids)}

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """The shape of one patch."""
        vision = config.vision_config
        return (3 * getattr(vision, "temporal_patch_size", 1) * vision.patch_size**2,)

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The patches of the row's images."""
        grids = inputs[f"{modality}_grid_thw"]
        ends = [0, *grids.prod(-1).cumsum(0).tolist()]
        pixels = inputs[self.main_inputs[modality]][ends[items.start] : ends[items.stop]]
        return {self.main_inputs[modality]: pixels, f"{modality}_grid_thw": grids[items.start : items.stop]}


class TinyFramesApart(TinyFamily):
    """Tiny models of adapters whose videos stand frame by frame in the prompt."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """In a video two text tokens before each frame."""
        if modality != "video" or grid is None:
            return super().prompt_ids(config, modality, tokens, grid)
        frame = super().prompt_ids(config, modality, tokens // grid[0], grid)
        return [token for number in range(grid[0]) for token in (20 + number, 19, *frame)]


class TinyTimestamped(TinyFramesApart, TinyPatches):
    """Tiny models of `Timestamped`."""


class TinyTogether(TinyFamily):
    """Tiny models of `Together`."""

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """Images and videos encoded together where both are there."""
        full = super().mask_dropped(model, inputs, items)
        if len(find_modalities(self.family, inputs)) == 1:
            return full
        ready = encoded_inputs(self.family, model, full)
        whole = [replace(item, kept=torch.arange(item.total)) for item in items]
        joined = join_outputs(ready["mm_encoder_outputs"]["image"], whole)
        return {**ready, "mm_encoder_outputs": {"image": joined}}


SAMPLES = (6400, 3000)  # of the audios


class TinyDots3Note(TinyPatches):
    """Tiny models of `Dots3Note`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Audios padded to the longest."""
        if modality != "audio":
            return super().make_inputs(config, modality, rows, rng)
        audio = config.audio_config
        lengths = torch.tensor([SAMPLES[i % len(SAMPLES)] for i in range(sum(rows))])
        features = torch.randn(len(lengths), audio.feature_size, max(SAMPLES) // audio.hop_length, generator=rng)
        return {"input_features": features, "chunk_sample_lengths": lengths}


class TinyErnie45VL(TinyPatches):
    """Tiny models of `Ernie45VL`."""

    patch_grids = {**PATCH_GRIDS, "video": ((4, 4, 4), (2, 4, 6))}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers of the modality at both ends."""
        start, end = (getattr(config, f"{modality}_{end}_token_id") for end in ("start", "end"))
        return [start, *super().prompt_ids(config, modality, tokens, grid), end]


class TinyFrames(TinyPatches):
    """Tiny models of `Frames`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """In a video a text token after each frame."""
        frames = grid[0] if modality == "video" and grid is not None else 1
        one = [config.image_start_token_id, *[config.image_token_id] * (tokens // frames), config.image_end_token_id]
        if modality == "image":
            return one
        video = [token for number in range(frames) for token in (*one, 20 + number)]
        return [config.video_start_token_id, *video, config.video_end_token_id]


class TinyGlm4v(TinyTogether, TinyFrames):
    """Tiny models of `Glm4v`."""


class TinyHunYuanVL(TinyPatches):
    """Tiny models of `HunYuanVL`."""

    markers = ("im_start_id", "im_end_id")

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """Without the row of positions that counts tokens."""
        full = super().mask_dropped(model, inputs, items)
        return {**full, "position_ids": full["position_ids"][1:]}


class TinyKimiK25(TinyPatches):
    """Tiny models of `KimiK25`."""

    patch_grids = {**PATCH_GRIDS, "video": ((2, 4, 4), (1, 4, 4), (3, 4, 6))}

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Channels, height, width."""
        side = config.vision_config.patch_size
        return (3, side, side)

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Text tokens for the time and the kind come before the placeholders."""
        start, *ids = super().prompt_ids(config, modality, tokens, grid)
        return [*([20, 21] if modality == "video" else []), start, 22, 23, *ids]

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """With videos encoded by `encode`."""
        full = super().mask_dropped(model, inputs, items)
        return encoded_inputs(self.family, model, full) if "video" in find_modalities(self.family, inputs) else full


class TinyPaddleOCRVL(TinyPatches):
    """Tiny models of `PaddleOCRVL`."""

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Channels, height, width."""
        side = config.vision_config.patch_size
        return (3, side, side)


class TinyQwen4Exp(TinyTimestamped):
    """Tiny models of `Qwen4Exp`."""

    def randomize_zeros(self, model: Any) -> None:
        """The convolution starts at zero."""
        for layer in self.family.decoder(model).layers:
            if layer.ple is not None:
                layer.ple.conv1d.weight.normal_(std=0.05)


FRAMES = (130, 72)  # of the audios' spectrograms


class TinyQwen25Omni(TinyPatches):
    """Tiny models of `Qwen25Omni`."""

    may_end_in_image = False  # its positions count on the end marker

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Audios padded to the longest; videos with the seconds of a frame."""
        if modality == "audio":
            frames = torch.tensor([FRAMES[i % len(FRAMES)] for i in range(sum(rows))])
            mask = torch.arange(max(FRAMES)) < frames[:, None]
            features = torch.randn(len(frames), config.audio_config.num_mel_bins, max(FRAMES), generator=rng)
            return {"input_features": features, "feature_attention_mask": mask.long()}
        made = super().make_inputs(config, modality, rows, rng)
        if modality == "video":
            made["video_second_per_grid"] = torch.arange(1, sum(rows) + 1) / 2
        return made

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Audios have markers of their own at both ends."""
        if modality != "audio":
            return super().prompt_ids(config, modality, tokens, grid)
        return [config.audio_start_token_id, *[config.audio_token_id] * tokens, config.audio_end_token_id]


START, SEPARATOR, END = 31, 32, 33  # any three text tokens stand for these
PATCH_SAMPLES = (40, 24)  # of the audios


class TinyMuseGlimmer(TinyPatches):
    """Tiny models of `MuseGlimmer`."""

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Of two frames."""
        vision = config.vision_config
        return (3 * vision.patch_temporal * vision.patch_size**2,)

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends; in a video a timestamp before every frame and a separator after it."""
        frames = grid[0] if grid is not None and modality == "video" else 1
        ids = [self.family.token_id(config, modality)] * (tokens // frames)
        if modality != "video":
            return [START, *ids, END]
        return [START, *(i for n in range(frames) for i in (20 + n, 19, *ids, SEPARATOR if n < frames - 1 else END))]


class TinyMuseSpark(TinyMuseGlimmer):
    """Tiny models of `MuseSpark`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Audios padded to the longest."""
        if modality != "audio":
            return super().make_inputs(config, modality, rows, rng)
        lengths = torch.tensor([PATCH_SAMPLES[i % len(PATCH_SAMPLES)] for i in range(sum(rows))])
        mask = torch.arange(max(PATCH_SAMPLES)) < lengths[:, None]
        waves = torch.randn(mask.shape, generator=rng)
        return {"input_values": waves, "input_values_mask": mask.long()}
