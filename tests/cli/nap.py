"""Calls of the example's tools, and one of `nap` in a thread."""

import threading

import httpx2
from tests.kit.waits import PATIENCE

HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}


ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def call_tool(url: str, tool: str, **arguments: object) -> str:
    """Call a tool, and give back what the server answers."""
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments, "_meta": ENVELOPE},
    }  # fmt: skip
    headers = {**HEADERS, "mcp-method": "tools/call", "mcp-name": tool}
    return httpx2.post(url, json=body, headers=headers, timeout=PATIENCE).text


class NapCall(threading.Thread):
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
