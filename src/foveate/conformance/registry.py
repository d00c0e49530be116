"""The tiny halves of the families by `config.model_type`: where the built-in ones are defined, and plug-ins."""

from foveate.conformance.tiny_family import TinyFamily
from foveate.errors import UnknownFamilyError
from foveate.models.base import Family
from foveate.models.registry import BUILTIN as ADAPTERS
from foveate.registry import Registry

BUILTIN = {
    "apertus1p5": "foveate.conformance.families.chameleon:TinyApertus",
    "aria": "foveate.conformance.families.aria:TinyAria",
    "aya_vision": "foveate.conformance.families.tiles:TinyAyaVision",
    "blip-2": "foveate.conformance.families.blip_2:TinyBlip2",
    "chameleon": "foveate.conformance.families.chameleon:TinyChameleon",
    "cohere2_vision": "foveate.conformance.families.tiles:TinyCohere2Vision",
    "cohere_compass": "foveate.conformance.families.patches:TinyTimestamped",
    "cosmos3_edge": "foveate.conformance.families.patches:TinyTimestamped",
    "cosmos3_omni": "foveate.conformance.families.patches:TinyTimestamped",
    "deepseek_ocr2": "foveate.conformance.families.deepseek_ocr2:TinyDeepseekOcr2",
    "deepseek_vl_hybrid": "foveate.conformance.families.deepseek_vl:TinyDeepseekVLHybrid",
    "dots3_note": "foveate.conformance.families.dots3_note:TinyDots3Note",
    "emu3": "foveate.conformance.families.chameleon:TinyEmu3",
    "ernie4_5_vl_moe": "foveate.conformance.families.ernie4_5_vl:TinyErnie45VL",
    "exaone4_5": "foveate.conformance.families.patches:TinyPatches",
    "florence2": "foveate.conformance.families.florence2:TinyFlorence2",
    "fuyu": "foveate.conformance.families.fuyu:TinyFuyu",
    "gemma3": "foveate.conformance.families.gemma3:TinyGemma3",
    "gemma3n": "foveate.conformance.families.gemma3n:TinyGemma3n",
    "gemma4": "foveate.conformance.families.gemma4:TinyGemma4",
    "gemma4_unified": "foveate.conformance.families.gemma4:TinyGemma4Unified",
    "glm46v": "foveate.conformance.families.glm4v:TinyGlm4v",
    "glm4v": "foveate.conformance.families.glm4v:TinyGlm4v",
    "glm4v_moe": "foveate.conformance.families.glm4v:TinyGlm4v",
    "glm5_next": "foveate.conformance.families.glm4v:TinyFrames",
    "glm_ocr": "foveate.conformance.families.glm4v:TinyGlm4v",
    "glmga": "foveate.conformance.families.glm4v:TinyGlm4v",
    "got_ocr2": "foveate.conformance.families.tiles:TinyGotOcr2",
    "granite4_vision": "foveate.conformance.families.llava_next:TinyTiled",
    "granite_docling": "foveate.conformance.families.idefics3:TinyGraniteDocling",
    "hunyuan_vl": "foveate.conformance.families.hunyuan_vl:TinyHunYuanVL",
    "hy_v4_vl": "foveate.conformance.families.patches:TinyPatches",
    "hyperclovax_vision_v2": "foveate.conformance.families.patches:TinyPatches",
    "idefics": "foveate.conformance.families.idefics:TinyIdefics",
    "idefics2": "foveate.conformance.families.idefics3:TinyIdefics2",
    "idefics3": "foveate.conformance.families.idefics3:TinyIdefics3",
    "inkling2": "foveate.conformance.families.inkling:TinyInkling2",
    "inkling2_loop": "foveate.conformance.families.inkling:TinyInkling2",
    "inkling_mm_model": "foveate.conformance.families.inkling:TinyInkling",
    "instructblip": "foveate.conformance.families.blip_2:TinyInstructBlip",
    "instructblipvideo": "foveate.conformance.families.blip_2:TinyInstructBlipVideo",
    "internvl": "foveate.conformance.families.tiles:TinyInternVL",
    "kimi_k25": "foveate.conformance.families.kimi_k25:TinyKimiK25",
    "lfm2_vl": "foveate.conformance.families.lfm:TinyLfm2VL",
    "lfm3_vl": "foveate.conformance.families.patches:TinyTimestamped",
    "lighton_ocr": "foveate.conformance.families.mistral3:TinyImageSizes",
    "llama4": "foveate.conformance.families.tiles:TinyLlama4",
    "llava_next": "foveate.conformance.families.llava_next:TinyTiled",
    "llava_next_video": "foveate.conformance.families.llava_next:TinyTiled",
    "llava_onevision": "foveate.conformance.families.llava_next:TinyLlavaOnevision",
    "minicpm_ocr": "foveate.conformance.families.minicpm_v:TinyMiniCPMV",
    "minicpmv4_6": "foveate.conformance.families.minicpm_v:TinyMiniCPMV",
    "minicpmv4_7": "foveate.conformance.families.minicpm_v:TinyMiniCPMV",
    "mistral3": "foveate.conformance.families.mistral3:TinyMistral3",
    "mistral_large4": "foveate.conformance.families.mistral3:TinyMistral3",
    "mllama": "foveate.conformance.families.mllama:TinyMllama",
    "molmo2": "foveate.conformance.families.molmo2:TinyMolmo2",
    "muse_glimmer": "foveate.conformance.families.muse:TinyMuseGlimmer",
    "muse_spark": "foveate.conformance.families.muse:TinyMuseSpark",
    "nemotron_h_omni": "foveate.conformance.families.nemotron_h_omni:TinyNemotronHOmni",
    "ovis2": "foveate.conformance.families.tiles:TinyOvis2",
    "paddleocr_vl": "foveate.conformance.families.paddleocr_vl:TinyPaddleOCRVL",
    "perception_lm": "foveate.conformance.families.perception_lm:TinyPerceptionLM",
    "pp_chart2table": "foveate.conformance.families.tiles:TinyGotOcr2",
    "qianfan_ocr": "foveate.conformance.families.tiles:TinyInternVL",
    "qwen2_5_omni_thinker": "foveate.conformance.families.qwen_omni:TinyQwen25Omni",
    "qwen2_5_vl": "foveate.conformance.families.patches:TinyPatches",
    "qwen2_vl": "foveate.conformance.families.patches:TinyPatches",
    "qwen3_5": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen3_5_moe": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen3_omni_moe_thinker": "foveate.conformance.families.qwen_omni:TinyQwen25Omni",
    "qwen3_vl": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen3_vl_moe": "foveate.conformance.families.patches:TinyTimestamped",
    "qwen4_exp": "foveate.conformance.families.qwen4_exp:TinyQwen4Exp",
    "shieldgemma2": "foveate.conformance.families.gemma3:TinyGemma3",
    "smolvlm": "foveate.conformance.families.idefics3:TinyIdefics3",
    "step3p7": "foveate.conformance.families.step3p7:TinyStep3p7",
    "t5gemma2": "foveate.conformance.families.t5gemma2:TinyT5Gemma2",
    "unlimited_ocr": "foveate.conformance.families.deepseek_ocr2:TinyUnlimitedOcr",
    "video_llama_3": "foveate.conformance.families.video_llama_3:TinyVideoLlama3",
    "video_llava": "foveate.conformance.families.video_llava:TinyVideoLlava",
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
