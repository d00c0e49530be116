"""The tiny halves of the families by `config.model_type`: where the built-in ones are defined, and plug-ins."""

from foveate.conformance.tiny_family import TinyFamily
from foveate.errors import UnknownFamilyError
from foveate.models.base import Family
from foveate.models.registry import BUILTIN as ADAPTERS
from foveate.registry import Registry

BUILTIN = {
    "apertus1p5": "foveate.conformance.families.towers:TinyApertus",
    "aria": "foveate.conformance.families.towers:TinyAria",
    "aya_vision": "foveate.conformance.families.tile_markers:TinyAyaVision",
    "blip-2": "foveate.conformance.families.cross:TinyBlip2",
    "chameleon": "foveate.conformance.families.towers:TinyChameleon",
    "cohere2_vision": "foveate.conformance.families.tile_markers:TinyCohere2Vision",
    "cohere_compass": "foveate.conformance.families.patches:TinyTimestamped",
    "cosmos3_edge": "foveate.conformance.families.patches:TinyTimestamped",
    "cosmos3_omni": "foveate.conformance.families.patches:TinyTimestamped",
    "deepseek_ocr2": "foveate.conformance.families.rows:TinyDeepseekOcr2",
    "deepseek_vl_hybrid": "foveate.conformance.families.towers:TinyDeepseekVLHybrid",
    "dots3_note": "foveate.conformance.families.patches:TinyDots3Note",
    "emu3": "foveate.conformance.families.towers:TinyEmu3",
    "ernie4_5_vl_moe": "foveate.conformance.families.patches:TinyErnie45VL",
    "exaone4_5": "foveate.conformance.families.patches:TinyPatches",
    "florence2": "foveate.conformance.families.cross:TinyFlorence2",
    "fuyu": "foveate.conformance.families.towers:TinyFuyu",
    "gemma3": "foveate.conformance.families.tiled:TinyGemma3",
    "gemma3n": "foveate.conformance.families.gemma:TinyGemma3n",
    "gemma4": "foveate.conformance.families.gemma:TinyGemma4",
    "gemma4_unified": "foveate.conformance.families.gemma:TinyGemma4Unified",
    "glm46v": "foveate.conformance.families.patches:TinyGlm4v",
    "glm4v": "foveate.conformance.families.patches:TinyGlm4v",
    "glm4v_moe": "foveate.conformance.families.patches:TinyGlm4v",
    "glm5_next": "foveate.conformance.families.patches:TinyFrames",
    "glm_ocr": "foveate.conformance.families.patches:TinyGlm4v",
    "glmga": "foveate.conformance.families.patches:TinyGlm4v",
    "got_ocr2": "foveate.conformance.families.tile_markers:TinyGotOcr2",
    "granite4_vision": "foveate.conformance.families.towers:TinyTiled",
    "granite_docling": "foveate.conformance.families.tiled:TinyGraniteDocling",
    "hunyuan_vl": "foveate.conformance.families.patches:TinyHunYuanVL",
    "hy_v4_vl": "foveate.conformance.families.patches:TinyPatches",
    "hyperclovax_vision_v2": "foveate.conformance.families.patches:TinyPatches",
    "idefics": "foveate.conformance.families.cross:TinyIdefics",
    "idefics2": "foveate.conformance.families.tiled:TinyIdefics2",
    "idefics3": "foveate.conformance.families.tiled:TinyIdefics3",
    "inkling2": "foveate.conformance.families.rows:TinyInkling2",
    "inkling2_loop": "foveate.conformance.families.rows:TinyInkling2",
    "inkling_mm_model": "foveate.conformance.families.rows:TinyInkling",
    "instructblip": "foveate.conformance.families.cross:TinyInstructBlip",
    "instructblipvideo": "foveate.conformance.families.cross:TinyInstructBlipVideo",
    "internvl": "foveate.conformance.families.tile_markers:TinyInternVL",
    "kimi_k25": "foveate.conformance.families.patches:TinyKimiK25",
    "lfm2_vl": "foveate.conformance.families.tile_markers:TinyLfm2VL",
    "lfm3_vl": "foveate.conformance.families.patches:TinyTimestamped",
    "lighton_ocr": "foveate.conformance.families.towers:TinyImageSizes",
    "llama4": "foveate.conformance.families.tile_markers:TinyLlama4",
    "llava_next": "foveate.conformance.families.towers:TinyTiled",
    "llava_next_video": "foveate.conformance.families.towers:TinyTiled",
    "llava_onevision": "foveate.conformance.families.towers:TinyLlavaOnevision",
    "minicpm_ocr": "foveate.conformance.families.tile_markers:TinyMiniCPMV",
    "minicpmv4_6": "foveate.conformance.families.tile_markers:TinyMiniCPMV",
    "minicpmv4_7": "foveate.conformance.families.tile_markers:TinyMiniCPMV",
    "mistral3": "foveate.conformance.families.towers:TinyMistral3",
    "mistral_large4": "foveate.conformance.families.towers:TinyMistral3",
    "mllama": "foveate.conformance.families.cross:TinyMllama",
    "molmo2": "foveate.conformance.families.rows:TinyMolmo2",
    "muse_glimmer": "foveate.conformance.families.patches:TinyMuseGlimmer",
    "muse_spark": "foveate.conformance.families.patches:TinyMuseSpark",
    "nemotron_h_omni": "foveate.conformance.families.towers:TinyNemotronHOmni",
    "ovis2": "foveate.conformance.families.tile_markers:TinyOvis2",
    "paddleocr_vl": "foveate.conformance.families.patches:TinyPaddleOCRVL",
    "perception_lm": "foveate.conformance.families.towers:TinyPerceptionLM",
    "pp_chart2table": "foveate.conformance.families.tile_markers:TinyGotOcr2",
    "qianfan_ocr": "foveate.conformance.families.tile_markers:TinyInternVL",
    "qwen2_5_omni_thinker": "foveate.conformance.families.patches:TinyQwen25Omni",
    "qwen2_5_vl": "foveate.conformance.families.patches:TinyPatches",
    "qwen2_vl": "foveate.conformance.families.patches:TinyPatches",
    "qwen3_5": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen3_5_moe": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen3_omni_moe_thinker": "foveate.conformance.families.patches:TinyQwen25Omni",
    "qwen3_vl": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen3_vl_moe": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen4_exp": "foveate.conformance.families.patches:TinyQwen4Exp",
    "shieldgemma2": "foveate.conformance.families.tiled:TinyGemma3",
    "smolvlm": "foveate.conformance.families.tiled:TinyIdefics3",
    "step3p7": "foveate.conformance.families.rows:TinyStep3p7",
    "t5gemma2": "foveate.conformance.families.gemma:TinyT5Gemma2",
    "unlimited_ocr": "foveate.conformance.families.rows:TinyUnlimitedOcr",
    "video_llama_3": "foveate.conformance.families.rows:TinyVideoLlama3",
    "video_llava": "foveate.conformance.families.towers:TinyVideoLlava",
}

TINY_FAMILIES: Registry[TinyFamily] = Registry(
    "foveate.conformance", BUILTIN, kind="tiny family", unknown=UnknownFamilyError
)


def to_tiny_family(family: Family) -> TinyFamily:
    """The tiny half of an adapter: as registered for its model type, else for the built-in adapter it derives from."""
    registered = set(TINY_FAMILIES.names())
    bases = [f"{cls.__module__}:{cls.__name__}" for cls in type(family).__mro__]
    types = [family.model_type, *(name for base in bases for name, place in ADAPTERS.items() if place == base)]
    name = next((name for name in types if name in registered), None)
    return TinyFamily(family) if name is None else TINY_FAMILIES.load(name)(family)
