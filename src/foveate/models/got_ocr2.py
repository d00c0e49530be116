"""GOT-OCR 2 and PP-Chart2Table: a SAM tower whose patches two strided convolutions make fewer."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.base import Family


class GotOcr2(Family):
    """`GotOcr2ForConditionalGeneration`; the budget is a tile's, or that of one page."""

    traits = replace(
        Family.traits,
        overview="last",
        summary="GOT-OCR 2, PP-Chart2Table; every tile and every page counts as a picture",
    )
