"""SIGTERM, as a process manager sends it."""

import json
import signal
import threading

import httpx2
import pytest
from tests.cli.conftest import EXAMPLE
from tests.kit.program import Programs
from tests.kit.waits import PATIENCE

HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Call(threading.Thread):
    """A call of `nap`, whose answer is waited for."""

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__()
        self.url = url
        self.body = {
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "nap", "arguments": {"seconds": seconds}, "_meta": ENVELOPE},
        }  # fmt: skip
        self.answer = ""

    def run(self) -> None:
        headers = {**HEADERS, "mcp-method": "tools/call", "mcp-name": "nap"}
        self.answer = httpx2.post(self.url, json=self.body, headers=headers, timeout=PATIENCE).text

    def until_it_naps(self) -> None:
        """Return when the tool is at work: `naps` counts it."""
        body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call"}
        params = {"name": "naps", "arguments": {}, "_meta": ENVELOPE}
        headers = {**HEADERS, "mcp-method": "tools/call", "mcp-name": "naps"}
        for _ in range(1000):
            answer = httpx2.post(self.url, json={**body, "params": params}, headers=headers)
            if '"text":"1"' in answer.text:
                return
        raise AssertionError("the tool does not begin")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_may_finish(programs: Programs, number: int) -> None:
    program, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", "--journal", "memory:")
    call = Call(url, 2)
    call.start()
    call.until_it_naps()
    program.interrupt(number)
    program.wait_for("finishing what runs")
    ready = httpx2.get(url.replace("/mcp", "/readyz"))
    assert ready.status_code == 503
    call.join(PATIENCE)
    assert "rested" in call.answer
    assert program.finish().code == 0


def test_a_call_that_takes_longer_is_told(programs: Programs) -> None:
    options = ("--port", "0", "--journal", "memory:", "--grace", "300ms")
    program, url = programs.serve("run", f"{EXAMPLE}:mcp", *options)
    call = Call(url, 600)
    call.start()
    call.until_it_naps()
    program.interrupt(signal.SIGTERM)
    finished = program.finish()
    call.join(PATIENCE)
    data = call.answer.rpartition("data: ")[2] or call.answer
    assert "the server stopped" in json.loads(data)["error"]["message"]
    assert "longer than 0.3 s" in finished.err
    assert finished.code == 0
