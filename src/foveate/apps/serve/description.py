"""The OpenAPI description of the server, made from the types that check requests and that answers are written as."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

import foveate
from foveate.apps.serve.chat_request import CompletionRequest
from foveate.apps.serve.chat_response import ChatCompletionChunk
from foveate.apps.serve.errors import ErrorBody

SCHEMAS = "#/components/schemas/"
REFUSALS = {
    400: "The request is wrong, or meant for another host: the message says what to change.",
    401: "The server wants a key, and the request has none or another one.",
    403: "A page of another site sent the request.",
    404: "There is no model of that name.",
    408: "The body did not arrive in time.",
    413: "The body or its images are too large.",
    415: "The body is not JSON.",
    429: "The client's address sends too many bodies at a time.",
    500: "The server failed, for a reason in its log.",
    503: "The server is busy or stops: try again.",
}
PIECE = {"anyOf": [{"$ref": f"{SCHEMAS}{kind.__name__}"} for kind in (ChatCompletionChunk, ErrorBody)]}
EVENT = {
    "description": "One event of a stream. A refusal, if there is one, is the last event; otherwise [DONE] is.",
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "anyOf": [
                {"const": "[DONE]"},
                {"type": "string", "contentMediaType": "application/json", "contentSchema": PIECE},
            ]
        }
    },
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": f"{SCHEMAS}{CompletionRequest.__name__}"}}},
    }
}
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": "The answer; with `stream`, its events."}
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that refuses requests with these statuses."""
    return {status: {"model": ErrorBody, "description": REFUSALS[status]} for status in statuses}


def describe_api(app: FastAPI, model: str, *, has_key: bool) -> dict[str, Any]:
    """The description of a server of one model, as JSON."""
    api = get_openapi(title="foveate serve", version=foveate.__version__, routes=app.routes)
    schemas = api["components"]["schemas"]
    for kind in (CompletionRequest, ChatCompletionChunk):
        schema = TypeAdapter(kind).json_schema(ref_template=f"{SCHEMAS}{{model}}")
        schemas |= {**schema.pop("$defs", {}), kind.__name__: schema}
    schemas[CompletionRequest.__name__]["properties"]["model"] = {"type": "string", "enum": [model]}
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which no route sends
        schemas.pop(name, None)
    for operations in api["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    if has_key:
        api["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in api["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{"key": []}]
    return api
