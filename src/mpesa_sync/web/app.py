"""The application: every route, how errors are answered, and what wraps it. Reads top to bottom in that order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.web import body, front, health, metrics, problems, runbook, static_files
from mpesa_sync.web.api import alerts as alerts_api
from mpesa_sync.web.api import mpesa_settings, openapi, operations
from mpesa_sync.web.context import Context
from mpesa_sync.web.cors import AllowedOrigins
from mpesa_sync.web.customer import drop_in, menu, payment_intents, payment_methods
from mpesa_sync.web.forwarded import Forwarded
from mpesa_sync.web.heads import Heads
from mpesa_sync.web.operator import alerts, fleet
from mpesa_sync.web.operator.fleet_counts import StoredCounts
from mpesa_sync.web.security import SecurityHeaders
from mpesa_sync.web.staff import mpesa, session, sign_in, venues
from mpesa_sync.web.streams import StreamsFirst


def create_app(
    context: Context,
    *,
    more_routes: Sequence[ControllerRouterHandler] = (),
    framed: bool = False,
    begins_at: str = session.VENUES,
) -> SecurityHeaders:
    """Return the web application.

    Arguments:
        context: what the routes work with.
        more_routes: routes of the demo.
        framed: whether pages may show each other in frames: for the demo only.
        begins_at: the path that / leads to.
    """
    state = context.state()
    state[metrics.KEY] = metrics.StoredGauges(context.spare, context.alert_urls)
    state[front.KEY] = begins_at
    state[fleet.KEY] = StoredCounts(context.database)
    app = Litestar(
        route_handlers=[*routes(), *more_routes],
        exception_handlers={
            MpesaSyncError: problems.on_our_error,
            HTTPException: problems.on_http_error,
            Exception: problems.on_unexpected,
        },
        openapi_config=openapi.config(),
        request_max_body_size=body.MAX_BYTES,
        logging_config=None,
        state=state,
    )
    answering: Any = AllowedOrigins(StreamsFirst(Heads(app), context.hub), context.allowed_origins)
    if context.trusted_proxies:
        answering = Forwarded(answering, context.trusted_proxies)
    return SecurityHeaders(answering, framed=framed)


def routes() -> list[ControllerRouterHandler]:
    """Return every route but those of the demo."""
    return [
        front.show,
        mpesa_settings.save,
        mpesa_settings.read,
        operations.read,
        alerts_api.list_,
        alerts_api.read,
        alerts_api.acknowledge,
        alerts_api.resolve,
        payment_methods.read,
        payment_methods.events,
        payment_intents.ask,
        drop_in.show,
        menu.show,
        menu.ask,
        sign_in.show,
        sign_in.submit,
        sign_in.leave,
        venues.show,
        mpesa.show,
        mpesa.save,
        mpesa.switch,
        mpesa.status,
        fleet.show,
        fleet.show_bar,
        alerts.show,
        alerts.show_one,
        alerts.acknowledge,
        alerts.resolve,
        runbook.show,
        health.livez,
        health.readyz,
        metrics.show,
        static_files.show,
    ]
