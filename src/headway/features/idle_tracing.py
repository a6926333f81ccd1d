"""The SDK's tracing, for as long as nobody takes its spans: then a call does not pay for them.

With a provider of spans (`opentelemetry-instrument`, `set_tracer_provider`), from when it is there,
or with a trace in the request, which goes on to what the tool itself asks, all is as in the SDK.
"""

import os
from typing import Any, Final

from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER

_TRACE_KEYS = ("traceparent", "tracestate", "baggage")
"""The keys of a request's `_meta` that a trace is told by (SEP-414)."""

_IS_NAMED: Final = OTEL_PYTHON_TRACER_PROVIDER in os.environ
"""Whether the environment names the provider of spans."""


class IdleTracing(OpenTelemetryMiddleware):
    """The SDK's middleware, passed by where no span of it could be seen."""

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Handle a request in a span, where somebody takes spans or the request is in a trace."""
        if _takes_spans() or _is_traced(ctx):
            return await super().__call__(ctx, call_next)
        return await call_next(ctx)


def _takes_spans() -> bool:
    """Return whether somebody takes spans.

    The library looks into the environment each time, for as long as it has no provider. Whether it
    has one is asked first, where its module still says so.
    """
    if vars(trace).get("_TRACER_PROVIDER", trace) is None and not _IS_NAMED:
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _is_traced(ctx: ServerRequestContext[Any, Any]) -> bool:
    meta = ctx.meta
    return bool(meta) and not meta.keys().isdisjoint(_TRACE_KEYS)


def install_idle_tracing(low: Server[Any]) -> None:
    """Put `IdleTracing` in the place of the SDK's own middleware; subclasses of it stay."""
    low.middleware[:] = [
        IdleTracing() if type(each) is OpenTelemetryMiddleware else each for each in low.middleware
    ]
