"""The parts of a message: text, images and videos."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue

from foveate.apps.serve.field_checks import EMPTY, MAX_FIELDS, allow_empty, at_most


class StrictBody(BaseModel):
    """Base of all parts of a body: unknown fields are refused, since they would have no effect.

    Strict: a boolean or a string is no number. Fields that are null or empty are dropped: clients send unset fields so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        if not isinstance(at_most(MAX_FIELDS, "fields")(value), dict):
            return value
        return {name: field for name, field in value.items() if field not in EMPTY}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of the fields."""
        return allow_empty(handler.resolve_ref_schema(handler(core)))


class TextPart(StrictBody):
    """Text."""

    type: Literal["text"]
    text: str


class ImageURL(StrictBody):
    """The URL of an image, usually a data URL."""

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class ImagePart(StrictBody):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageURL


class VideoURL(StrictBody):
    """The data URL of a video file."""

    url: str


class VideoPart(StrictBody):
    """A video, of which some frames are shown."""

    type: Literal["video_url"]
    video_url: VideoURL


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]
