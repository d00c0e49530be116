"""`prune_inputs`: a model's inputs, rewritten so that only the visual tokens that the question needs are left."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foveate.method import Method
from foveate.models import family_of
from foveate.models.generation import has_own_decoder
from foveate.models.inputs import rename_inputs
from foveate.models.wrappers import unwrap
from foveate.pipeline.budget import allocate_budget
from foveate.pipeline.earlier import EarlierChoices, keep_earlier, skip_earlier
from foveate.pipeline.encode import Encoded, Marks, check_needs, encode_missing
from foveate.pipeline.follow import find_policy, follow_policy
from foveate.pipeline.glance import glance
from foveate.pipeline.inputs import check_containers, check_inputs
from foveate.pipeline.labels import ignore_placeholders
from foveate.pipeline.locate import locate_items
from foveate.pipeline.parts import check_encoder, encode_parts
from foveate.pipeline.past import check_in_place, check_past, leave_cached
from foveate.pipeline.question import warn_once
from foveate.pipeline.report import PrunedInputs, Report
from foveate.pipeline.select import select_tokens
from foveate.pipeline.settings import Encode, Keep, Per, Positions, PruneSettings, Skip, check_settings
from foveate.pipeline.shorten import shorten_inputs

NONE_EARLIER = EarlierChoices()


def prune_inputs(
    model: Any, inputs: Mapping[str, Any], *, keep: Keep, method: str | Method = "foveate",
    positions: Positions = "original", per: Per = "image", modalities: Sequence[str] = ("image", "video"),
    encoded: Encoded | None = None, explain: bool = False, encode: Encode = 1.0,
    max_encoder_memory: int | None = None, skip: Skip = None,
) -> PrunedInputs:  # fmt: skip
    """Rewrite a processor's output so that only the visual tokens that the question needs are left.

    Take a loss on the result, or call this under `torch.no_grad()`: else it keeps all that the encoder keeps for
    gradients. Tokens of a video that repeat an earlier frame are never selected, unless everything is kept. The last
    token of a prompt always stays, beside those that `keep` counts.

    Args:
        model: A vision-language model of transformers.
        inputs: `input_ids` (b, L), what the encoders read, optionally `attention_mask` and `labels`; not changed.
            Placeholders are no labels of the result, unless `keep=1.0`. `past_key_values` may hold its first tokens,
            words before the first image: the result is then what follows them.
        keep: Visual tokens to keep: a number (int), a share (float in (0, 1]), `Recency` (shares by the age of images),
            a `Policy` that chooses for each image and question, or "auto" for the policy that comes with the model.
        method: A name (`foveate.methods()`) or a configured method.
        positions: "original" keeps the tokens' position ids, "compact" numbers them anew.
        per: What `keep` counts for: every "image" or video, every "frame" of a video, or a whole "prompt".
        modalities: What is pruned, of "image", "video" and "audio"; the rest stays whole. Where audio is pruned the
            result holds `inputs_embeds`: `generate` then returns new tokens alone, and takes no assistant.
        encoded: The same images and videos from `foveate.encode`; `pixel_values` may then be left out.
        explain: Report relevance and core of every item too, for another pass or two over the tokens.
        encode: The share of an image that goes through the encoder at most, in (0, 1]; `keep` remains a share of the
            whole image. Of models that see tiles, a share of these: the overview, then the tiles in which the question
            finds the most. Of Qwen-VL and its kin, of the patches: half for a smaller image, the rest for the windows
            that rank first; where attention is full, it is among these. "auto": each tile in which the question finds
            nearly as much as in the best one, or all where these are more than half; of models without tiles, all.
        max_encoder_memory: The bytes that the encoder's activations may take without gradients. Tiles go through it in
            groups that fit, by what one takes (videos at once); of towers that take patches images and frames do, by an
            upper estimate, and an image that does not fit is encoded in part, as with `encode`.
        skip: Of Qwen-VL and its kin, what is not encoded although it is part of the image: places of one colour that
            look like the place above or on the left, and places of a video that look as in the frame before. "blank"
            for a threshold that was measured, or a number in [0, 1), the largest difference of two pixel values as a
            share of the range of the image's values; 0 for equal ones alone. `keep` remains a share of the whole image.

    Returns:
        Shorter inputs with a `report`. Rows without an image pass through.

    Raises:
        FoveateError: The model, the settings or the inputs cannot be used; it names the fix.

    Example:
        model.generate(**foveate.prune_inputs(model, inputs, keep=0.1))
    """
    settings = check_settings(keep, method, positions, per, modalities, explain, encode, max_encoder_memory, skip)
    return leave_cached(family_of(unwrap(model)), prune(model, inputs, settings, encoded))


def prune(
    model: Any, inputs: Mapping[str, Any], settings: PruneSettings, encoded: Encoded | None = None, *,
    earlier: EarlierChoices = NONE_EARLIER, marks: Marks | None = None, question_last: bool = False,
) -> PrunedInputs:  # fmt: skip
    """`prune_inputs` with checked settings: encode, locate, glance, follow the policy, allocate, select, shorten.

    What `earlier` turns kept of the first images is kept too; not for methods that merge tokens. `marks` says what
    `encoded` holds of every image, by fields of `VisualInput`: tokens of NaN are then absent. With `question_last`
    words before the end of the last image only label images.
    """
    model = unwrap(model)
    settings = find_policy(model, replace(settings, is_partial=marks is not None))
    family, method = family_of(model), settings.method
    check_needs(model, family, method)
    check_encoder(family, settings)
    check_containers(inputs)
    inputs = rename_inputs(family, inputs)
    check_inputs(model, family, inputs)
    inputs = ignore_placeholders(model, family, inputs, settings)
    part = encode_parts(model, family, inputs, settings, encoded)
    encoded = encode_missing(model, family, inputs, settings, part.encoded)
    if not encoded.outputs:
        return PrunedInputs(inputs, Report((), method.name, 0.0, ("No image: nothing was pruned.",)))
    started = time.perf_counter()
    items, mask, questions, notes = locate_items(
        model, family, inputs, encoded, marks or part.marks, question_last=question_last
    )
    if not has_own_decoder(model):
        check_past(family, inputs, items, mask)
    before = time.perf_counter()
    items = glance(model, family, inputs, encoded, items, mask, questions, settings)
    looked = time.perf_counter() - before if any(item.look is not None for item in items) else 0.0
    items, unlike = follow_policy(items, questions, settings)
    shares = skip_earlier(allocate_budget(items, questions, settings), items, earlier)
    items = select_tokens(items, shares, questions, method, explain=settings.explain)
    items = keep_earlier(items, earlier)
    short, layout = shorten_inputs(model, family, inputs, encoded, items, mask, settings.positions)
    if not has_own_decoder(model):
        check_in_place(short, layout)
    seconds = part.seconds + time.perf_counter() - started

    reads_words = method.prompt_aware and "cross_attention" not in method.needs  # else the notes are not on its choice
    notes = [*(notes if reads_words or settings.policy else ()), *unlike]
    warn_once(model, notes)
    notes = [*notes, *part.notes, *([family.traits.note] if family.traits.note else ())]
    if any(item.is_part for item in items):
        notes.append("Nothing in these inputs tells which tiles are one image: each tile counts as an image.")
    seen = tuple(item.without_embeds() for item in items)
    report = Report(seen, method.name, seconds, tuple(notes), looked + part.glance_seconds, method.prompt_aware)
    return PrunedInputs(short, report, layout)
