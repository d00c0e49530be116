"""What the image processors of transformers return is what the adapters read and the tiny batches hold."""

import inspect

import pytest
import torch
import transformers
from PIL import Image
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as MAPPING
from transformers.utils.import_utils import is_torchvision_available

from foveate.conformance.batches import main_modality, make_batch, make_tiny_model
from foveate.models import lookup
from foveate.models.inputs import raw_names, rename_inputs

pytestmark = pytest.mark.filterwarnings("ignore")


def list_processors():
    """Families, and their image processors that this environment can make (without torchvision those of Pillow)."""
    for model_type in lookup.available():
        for name in dict(MAPPING.get(model_type) or {}).values():
            # Fuyu's whole processor makes patches of what its image processor returns.
            if model_type != "fuyu" and (name.endswith("Pil") or is_torchvision_available()):
                yield pytest.param(model_type, getattr(transformers, name), id=f"{model_type}-{name}")


@pytest.mark.parametrize(("model_type", "processor"), list(list_processors()))
@torch.no_grad()
def test_names_of_a_processors_outputs(model_type, processor):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    outputs = processor()(Image.effect_noise((300, 200), 50).convert("RGB"), return_tensors="pt")
    assert raw_names(family) & set(outputs)
    read = set(inspect.signature(model.forward).parameters) & set(rename_inputs(family, outputs))
    assert read <= set(make_batch(model, family, [((main_modality(family),), 5)]))
