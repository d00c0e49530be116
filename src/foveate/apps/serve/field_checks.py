"""Checks of single fields of a body."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictFloat, StrictInt
from pydantic.json_schema import JsonSchemaValue

from foveate.method.checks import is_number

EMPTY: list[Any] = [None, [], {}]
MAX_FIELDS = 64  # of a JSON object; pydantic collects an error for each


def only(kind: type) -> BeforeValidator:
    """Check the type beside a literal, since 1 and True are equal in Python."""

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError("a number is needed" if kind is int else "true or false is needed")
        return value

    return BeforeValidator(check)


Off = Annotated[Literal[False], only(bool)]


def at_most(limit: int, things: str) -> Callable[[Any], Any]:
    """A validator that refuses a longer list before its entries are read."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > limit:
            raise ValueError(f"this server takes at most {limit} {things}, not {len(value)}")
        return value

    return check


def allow_empty(schema: JsonSchemaValue) -> JsonSchemaValue:
    """The schema of an object whose fields may be empty, unless they are needed."""
    needed = schema.get("required", ())
    schema["properties"] = {
        name: field if name in needed else {"anyOf": [field, {"enum": EMPTY}]}
        for name, field in schema["properties"].items()
    }
    return schema | {"additionalProperties": {"enum": EMPTY}, "maxProperties": MAX_FIELDS}


def _as_skip(value: Any) -> Any:
    if value != "blank" and not (is_number(value) and 0 <= value < 1):
        raise ValueError('give "blank", or a threshold of at least 0 (for equal pixels) and below 1')
    return value


def _as_encode(value: Any) -> Any:
    if value != "auto" and not (is_number(value) and 0 < value <= 1):
        raise ValueError('give a share of an image above 0 (0.4), 1 for all, or "auto"')
    return value


Share = Annotated[float, Field(gt=0, le=1)] | Literal["auto"]
EncodeShare = Annotated[
    StrictInt | StrictFloat | Literal["auto"], BeforeValidator(_as_encode, json_schema_input_type=Share)
]
Threshold = Annotated[float, Field(ge=0, lt=1)] | Literal["blank"]
SkipThreshold = Annotated[
    StrictInt | StrictFloat | Literal["blank"], BeforeValidator(_as_skip, json_schema_input_type=Threshold)
]
