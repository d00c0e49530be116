"""GOT-OCR 2 and PP-Chart2Table: a SAM tower whose patches two strided convolutions make fewer."""

from __future__ import annotations

from foveate.models.base import Family


class GotOcr2(Family):
    """`GotOcr2ForConditionalGeneration`; the budget is a tile's, or that of one page."""

    overview, tiles_apart = "last", True
    summary = "GOT-OCR 2, PP-Chart2Table; every tile and every page counts as a picture"
    tiny = {
        "vision_config": {
            "image_size": 64, "patch_size": 4, "output_channels": 8, "window_size": 3, "global_attn_indexes": [1],
            "initializer_range": 0.02,
        },
    }  # fmt: skip
