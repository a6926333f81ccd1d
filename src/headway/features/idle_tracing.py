"""The SDK's tracing, for as long as nobody takes its spans: then a call does not pay for them.

With a provider of spans (`opentelemetry-instrument`, `set_tracer_provider`), from when it is there,
or with a trace in the request, which goes on to what the tool itself asks, all is as in the SDK.
"""

from typing import Any

from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

_TRACE_KEYS = ("traceparent", "tracestate", "baggage")
"""The keys of a request's `_meta` that a trace is told by (SEP-414)."""


class IdleTracing(OpenTelemetryMiddleware):
    """The SDK's middleware, passed by where no span of it could be seen."""

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Handle a request in a span, where somebody takes spans or the request is in a trace."""
        if isinstance(get_tracer_provider(), ProxyTracerProvider) and not _is_traced(ctx):
            return await call_next(ctx)
        return await super().__call__(ctx, call_next)


def _is_traced(ctx: ServerRequestContext[Any, Any]) -> bool:
    meta = ctx.meta
    return bool(meta) and not meta.keys().isdisjoint(_TRACE_KEYS)


def install_idle_tracing(low: Server[Any]) -> None:
    """Put `IdleTracing` in the place of the SDK's own middleware; subclasses of it stay."""
    low.middleware[:] = [
        IdleTracing() if type(each) is OpenTelemetryMiddleware else each for each in low.middleware
    ]
