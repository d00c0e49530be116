"""What is wrong with a field of a body, in our own words."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from foveate.apps.serve.errors import RequestError

TAG = re.compile(r"(content\.\d+)\.(?:text|image_url|video_url)\b")  # pydantic writes a part's type behind its index

# OpenAI's fields that have no effect here but at one value.
WITHOUT_EFFECT = {
    "n": "this server gives one answer to a request: send the request again for another one",
    "logprobs": "this server gives no log-probabilities: leave it out",
    "top_logprobs": "this server gives no log-probabilities: leave it out",
    "frequency_penalty": "this server has no penalties: leave it out, or set it to 0",
    "presence_penalty": "this server has no penalties: leave it out, or set it to 0",
    "response_format": 'this server writes plain text: leave it out, or set it to {"type": "text"}',
    "tools": "this server calls no tools: leave it out",
    "functions": "this server calls no tools: leave it out",
    "tool_choice": "this server calls no tools: leave it out",
    "parallel_tool_calls": "this server calls no tools: leave it out",
    "logit_bias": "this server does not change the odds of tokens: leave it out",
    "store": "this server stores no answers: leave it out",
    "modalities": "this server answers with text alone: leave it out",
    "service_tier": "this server has one tier: leave it out",
}

# The sentence for each kind of error that the fields can have.
SENTENCES: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "it is needed, and it is not there",
    "extra_forbidden": "it has no effect here, leave it out",
    "string_type": "give text",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "give true or false",
    "list_type": "give a list",
    "dict_type": "give an object",
    "model_type": "give an object",
    "model_attributes_type": "give an object",
    "literal_error": lambda known: f"give {known['expected']}",
    "greater_than_equal": lambda known: f"give a number of at least {known['ge']}",
    "less_than_equal": lambda known: f"give a number of at most {known['le']}",
    "greater_than": lambda known: f"give a number above {known['gt']}",
    "less_than": lambda known: f"give a number below {known['lt']}",
    "too_short": lambda known: f"give at least {known['min_length']}, not {known['actual_length']}",
    "too_long": lambda known: f"give at most {known['max_length']}",
    "string_too_short": lambda known: f"give a text of at least {known['min_length']} characters",
    "string_too_long": lambda known: f"give a text of at most {known['max_length']} characters",
    "union_tag_invalid": lambda known: f"its type {known['tag']!r} is none of {known['expected_tags']}",
    "union_tag_not_found": "it has no type: give one of 'text', 'image_url', 'video_url'",
}


def to_field_error(error: ValidationError) -> RequestError:
    """The refusal for the first wrong field."""
    first = error.errors(include_url=False, include_input=False)[0]
    where, top = TAG.sub(r"\1", ".".join(map(str, first["loc"]))), str(first["loc"][0]) if first["loc"] else ""
    return RequestError(400, f"{where or 'The body'}: {_describe(top, first)}.", param=where or None)


def _describe(top: str, first: Mapping[str, Any]) -> str:
    """What is wrong with the field `top`, or with something inside of it."""
    if top in WITHOUT_EFFECT:
        return WITHOUT_EFFECT[top]
    if first["type"] == "value_error":
        return str(first["msg"]).removeprefix("Value error, ")
    sentence = SENTENCES.get(first["type"], "it is not what this field takes: see /openapi.json")
    return sentence if isinstance(sentence, str) else sentence(first["ctx"])
