"""The tiny half of each adapter: `Tiny<Adapter>` of the modules below, that of its base class, or a plug-in's."""

from importlib import import_module

from foveate.conformance.tiny_family import TinyFamily
from foveate.errors import UnknownFamilyError
from foveate.models.base import Family
from foveate.registry import Registry

# The adapters with a tiny half of their own, by its module in `foveate.conformance.families`.
MODULES = {
    "cross": "CrossAttention Idefics Mllama EncoderDecoder Florence2 Blip2 InstructBlip InstructBlipVideo",
    "gemma": "Gemma4 Gemma4Unified T5Gemma2",
    "patches": "Patches Timestamped Together Dots3Note Ernie45VL Frames Glm4v HunYuanVL KimiK25 "
    "PaddleOCRVL Qwen4Exp Qwen25Omni MuseGlimmer MuseSpark",
    "rows": "Inkling2 Inkling Molmo2 VideoLlama3 DeepseekOcr2 UnlimitedOcr Step3p7",
    "tile_markers": "AyaVision Cohere2Vision InternVL GotOcr2 Ovis2 Llama4 Lfm2VL MiniCPMV",
    "tiled": "TiledFamily Gemma Gemma3 Idefics3 Idefics2 GraniteDocling",
    "towers": "Aria DeepseekVLHybrid Fuyu Llava VideoLlava Tiled LlavaOnevision ImageSizes Mistral3 NemotronHOmni "
    "Chameleon Emu3 Apertus",
    "timm_towers": "FastVlm Gemma3n PerceptionLM",
}
BUILTIN = {name: module for module, names in MODULES.items() for name in names.split()}

PLUGINS: Registry[TinyFamily] = Registry("foveate.conformance", {}, kind="tiny family", unknown=UnknownFamilyError)


def to_tiny_family(family: Family) -> TinyFamily:
    """The tiny half of an adapter: a plug-in's for its model type, else that of its nearest base class with one."""
    if family.model_type in PLUGINS.names():
        return PLUGINS.load(family.model_type)(family)
    adapters = [cls.__name__ for cls in type(family).__mro__ if cls.__module__.startswith("foveate.models.")]
    name = next((name for name in adapters if name in BUILTIN), None)
    if name is None:
        return TinyFamily(family)
    made: TinyFamily = getattr(import_module(f"foveate.conformance.families.{BUILTIN[name]}"), f"Tiny{name}")(family)
    return made
