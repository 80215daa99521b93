"""What the OpenAPI document says beyond the signatures: the posted body, the answers, who may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from litestar.datastructures import ResponseHeader
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from mpesa_sync.domain import payments
from mpesa_sync.web import auth
from mpesa_sync.web.api import idempotency, preconditions
from mpesa_sync.web.api.settings_body import MAX_TEXT
from mpesa_sync.web.problems import PROBLEM_JSON, Problem

DOCUMENT: Final = "/api/openapi.json"
SIGNED_IN: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"session": []}]
ETAG: Final = ResponseHeader(
    "ETag", description="Of what is stored, for `If-Match`.", required=True, documentation_only=True
)
REPLAYED: Final = ResponseHeader(
    idempotency.REPLAYED,
    description="`true`: the answer to an earlier request with this `Idempotency-Key`.",
    documentation_only=True,
)
_HEADERS: Final = (
    Parameter(
        idempotency.KEY,
        "header",
        schema=Schema(
            type=OpenAPIType.STRING, min_length=1, max_length=idempotency.LONGEST, pattern="^[\\x20-\\x7e]+$"
        ),
        description="Makes a repeat safe: the same key and body get the same answer, for at least 24 hours. Another "
        "body: 422. While the first is not done: 409 with `Retry-After`.",
    ),
    Parameter(
        preconditions.IF_MATCH,
        "header",
        schema=Schema(type=OpenAPIType.STRING),
        description="The `ETag` of GET: 409 `stale_form`, naming who changed it and when, where it is not that of the "
        "switch and the credentials that are stored now.",
    ),
)


def failures(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the answers of a route that are problem documents."""
    return {
        status: ResponseSpec(
            Problem, generate_examples=False, media_type=PROBLEM_JSON, description="A problem document."
        )
        for status in statuses
    }


def config() -> OpenAPIConfig:
    """Return how the document is made: served as JSON at `DOCUMENT`, and nothing else."""
    return OpenAPIConfig(
        title="mpesa-sync",
        version="1",
        description="A venue's M-Pesa switch and what its customers are offered, as one fact.",
        path="/api",
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                "session": SecurityScheme(
                    type="apiKey",
                    name=auth.HTTPS_COOKIE,
                    security_scheme_in="cookie",
                    description=f"Over plain http its name is `{auth.COOKIE}`. Requests that change something need the "
                    "header X-CSRF-Token as well.",
                ),
            }
        ),
    )


def _text(description: str, *, longest: int = MAX_TEXT) -> Schema:
    return Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL], max_length=longest, description=description)


_SETTINGS: Final = Schema(
    type=OpenAPIType.OBJECT,
    description="A secret that is left out, blank or the mask (sixteen U+2022) keeps what is stored.",
    required=["barId"],
    properties={
        "barId": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.UUID, description="The bar."),
        "mpesa_enabled": Schema(
            type=[OpenAPIType.BOOLEAN, OpenAPIType.NULL], description="Switch M-Pesa on or off; left out: unchanged."
        ),
        "mpesa_environment": Schema(
            type=[OpenAPIType.STRING, OpenAPIType.NULL],
            enum=["sandbox", "production", None],
            description="Whose credentials these are; left out: the only ones there are.",
        ),
        "mpesa_business_shortcode": _text("PayBill or store number, 5 to 7 digits."),
        "mpesa_account_type": Schema(
            type=[OpenAPIType.STRING, OpenAPIType.NULL],
            enum=["paybill", "till", None],
            description="How the venue is paid; a till needs both numbers.",
        ),
        "mpesa_till_number": _text("The till number, 5 to 7 digits, for a till."),
        "mpesa_consumer_key": _text("From the Daraja portal."),
        "mpesa_consumer_secret": _text("From the Daraja portal."),
        "mpesa_passkey": _text("From the Daraja portal or Safaricom's mail."),
    },
)


@dataclass
class SettingsOperation(Operation):
    """POST /api/mpesa-settings: its body is read by us, so that nothing of it can be echoed, and described here."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or ()), *_HEADERS]
        self.request_body = RequestBody(required=True, content={"application/json": OpenAPIMediaType(schema=_SETTINGS)})


_PAYMENT_INTENT: Final = Schema(
    type=OpenAPIType.OBJECT,
    description="What a customer wants to pay with. Nothing of it is stored.",
    required=["method"],
    properties={
        "method": Schema(type=OpenAPIType.STRING, enum=["mpesa", "card", "cash"], description="How."),
        "phone": Schema(
            type=[OpenAPIType.STRING, OpenAPIType.NULL],
            max_length=40,
            description="A Kenyan mobile number, such as 0712345678 or 254712345678.",
        ),
        "amount": Schema(
            type=[OpenAPIType.INTEGER, OpenAPIType.NULL],
            minimum=1,
            maximum=payments.MOST_SHILLINGS,
            description="Whole shillings.",
        ),
    },
    additional_properties=False,
)


@dataclass
class PaymentIntentOperation(Operation):
    """POST payment-intents: its body is read by us, so that nothing of it can be echoed, and described here."""

    def __post_init__(self) -> None:
        content = {"application/json": OpenAPIMediaType(schema=_PAYMENT_INTENT)}
        self.request_body = RequestBody(required=True, content=content)
