"""The SDK's spans: made where somebody takes them, and where the request is in a trace."""

from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.shared import _otel
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span
from tests.kit.peers import Modern, Session, Wire, each_era, served, text_of

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Taken(trace.TracerProvider, trace.Tracer):
    """Takes the names of spans."""

    def __init__(self) -> None:
        self.spans: list[str] = []

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        return self

    def start_span(self, name: str, *_: Any, **__: Any) -> trace.Span:
        self.spans.append(name)
        return NonRecordingSpan(SpanContext(1, 1, is_remote=False))

    def start_as_current_span(self, name: str, *_: Any, **__: Any) -> Any:
        return trace.use_span(self.start_span(name))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Spans are taken: as after `set_tracer_provider`, which cannot be undone."""
    provider = Taken()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(_otel, "_tracer", provider)
    return provider


def make() -> MCPServer:
    server = MCPServer("traced")

    server.tool()(where)
    return server


async def where() -> str:
    context = get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else "nowhere"


async def call(wire: Wire, era: str, **meta: str) -> str:
    client = Modern(wire) if era == "2026" else await Session.open(wire)
    message = client.call_message("where")
    message["params"].setdefault("_meta", {}).update(meta)
    return text_of(await (await client.post(message)).outcome())


@each_era
async def test_nothing_is_made_that_nobody_takes(era: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(make()) as wire:
        monkeypatch.setattr(_otel, "_tracer", None)
        assert await call(wire, era) == "nowhere"


@each_era
async def test_a_span_is_made_where_somebody_takes_it(era: str, taken: Taken) -> None:
    async with served(make()) as wire:
        assert int(await call(wire, era), 16) == 1
    assert taken.spans[-1] == "tools/call where"


@each_era
async def test_a_trace_goes_on_although_nobody_takes_spans(era: str) -> None:
    traced = _otel.extract_trace_context({"traceparent": TRACE})
    with _otel.otel_span("any", kind=trace.SpanKind.SERVER, context=traced):
        as_in_the_sdk = await where()
    # Older releases of OpenTelemetry (1.33) let go of a trace where nobody takes its spans.
    assert as_in_the_sdk in (TRACE.split("-")[1], "nowhere")
    async with served(make()) as wire:
        assert await call(wire, era, traceparent=TRACE) == as_in_the_sdk
