"""What the OpenAPI document says about bodies that are posted to /api/alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from mpesa_sync.sync.alert_actions import LONGEST_NOTE

_NOTE: Final = Schema(
    type=OpenAPIType.OBJECT,
    additional_properties=False,
    properties={
        "note": Schema(
            type=OpenAPIType.STRING, max_length=LONGEST_NOTE, description="What was found or done, in one line."
        )
    },
)


@dataclass
class NoteOperation(Operation):
    """POST /api/alerts/{id}/resolve: an object with a note, or no body."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(required=False, content={"application/json": OpenAPIMediaType(schema=_NOTE)})
