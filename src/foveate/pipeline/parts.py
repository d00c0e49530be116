"""Step 1: what of the images goes through the encoder, by `encode`, `max_encoder_memory` and `skip`."""

from collections.abc import Mapping
from typing import Any

from foveate.models import Family
from foveate.pipeline.encode import Encoded, EncodedPart
from foveate.pipeline.settings import PruneSettings
from foveate.pipeline.skip import check_skip, encode_distinct
from foveate.pipeline.tiles import check_encode, encode_part


def check_encoder(family: Family, settings: PruneSettings) -> None:
    """Raise a `FoveateError` where the settings about the encoder do not fit the family, the method or the others."""
    check_encode(family, settings)
    check_skip(family, settings)


def encode_parts(
    model: Any, family: Family, inputs: Mapping[str, Any], settings: PruneSettings, encoded: Encoded | None
) -> EncodedPart:
    """Encode the parts that the settings choose; nothing yet where they choose all."""
    encode = encode_part if settings.skip is None else encode_distinct
    return encode(model, family, inputs, settings, encoded)
