"""The rules of `test_browsers`, by a browser that enforces them. Runs where Chromium is there."""

import asyncio
import html
import json
import re
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.kit.auth import guarded_tools
from tests.kit.peers import Wire, served
from tests.kit.waits import within

from headway import Headway, Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)"),
]

SETTINGS = Settings(allowed_origins=("http://app.example:*",))

PAGE = """<!doctype html><body><script>
const url = %(url)s, said = {};
const json = {"Content-Type": "application/json",
              "Accept": "application/json, text/event-stream"};
async function post(message, headers) {
  const answer = await fetch(url, {
    method: "POST", headers: {...json, ...headers}, body: JSON.stringify(message)});
  return {status: answer.status, session: answer.headers.get("mcp-session-id"),
          challenge: answer.headers.get("www-authenticate"), text: await answer.text()};
}
async function visit() {
  const hello = {jsonrpc: "2.0", id: 0, method: "initialize", params: {
    protocolVersion: "2025-06-18", capabilities: {}, clientInfo: {name: "page", version: "1"}}};
  said.opened = await post(hello, {"Authorization": "Bearer nobody"});
  if (!said.opened.session) return;
  const own = {"Mcp-Session-Id": said.opened.session, "MCP-Protocol-Version": "2025-06-18"};
  const call = {jsonrpc: "2.0", id: 1, method: "tools/call",
                params: {name: "echo", arguments: {text: "from a page"}}};
  said.called = await post(call, {...own, "Idempotency-Key": "k", "Mcp-Param-Any": "x"});
  said.lost = await post(call, {...own, "Mcp-Session-Id": "gone"});
  said.closed = (await fetch(url, {method: "DELETE", headers: own})).status;
}
visit().catch(error => { said.failed = String(error); }).finally(() => {
  document.body.textContent = "SAID" + JSON.stringify(said) + "END";
});
</script></body>"""


def make() -> Headway:
    mcp = Headway("chromium")

    @mcp.tool()
    async def echo(text: str) -> str:
        return text

    return mcp


@asynccontextmanager
async def page_for(wire: Wire) -> AsyncGenerator[int]:
    """Serve a page that calls the server; gives its port."""
    url = json.dumps(f"http://{wire.host}:{wire.port}/mcp")
    body = (PAGE % {"url": url}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # it may connect and ask nothing
            await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def visited(wire: Wire, host: str) -> dict[str, Any]:
    """What a page of this host could do and read."""
    async with page_for(wire) as port:
        with tempfile.TemporaryDirectory() as profile:
            browser = await asyncio.create_subprocess_exec(
                str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                "--host-resolver-rules=MAP *.example 127.0.0.1", f"--user-data-dir={profile}",
                "--virtual-time-budget=20000", "--dump-dom", f"http://{host}:{port}/",
                stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL,
            )  # fmt: skip
            try:
                shown, _ = await within(browser.communicate())
            finally:
                if browser.returncode is None:
                    browser.kill()
                    await browser.wait()
    found = re.search(r"SAID(.*?)END", shown.decode(), re.DOTALL)
    assert found, shown.decode()[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("host", ["app.example", "localhost"])
async def test_a_page_that_may_call_opens_a_session_and_calls_a_tool(host: str) -> None:
    async with served(make(), settings=SETTINGS) as wire:
        said = await visited(wire, host)
        assert "failed" not in said, said
        assert said["opened"]["status"] == 200
        assert "from a page" in said["called"]["text"]
        assert said["lost"]["status"] == 404
        assert "initialize" in said["lost"]["text"]
        assert said["closed"] == 200


async def test_a_page_that_may_not_call_can_do_nothing_and_read_nothing() -> None:
    async with served(make(), settings=SETTINGS) as wire:
        said = await visited(wire, "evil.example")
        assert "Failed to fetch" in said["failed"]
        assert not said.get("opened")


async def test_a_page_reads_why_its_token_is_refused() -> None:
    mcp = guarded_tools().mcp
    async with served(mcp, settings=SETTINGS) as wire:
        said = await visited(wire, "app.example")
        assert said["opened"]["status"] == 401
        assert said["opened"]["challenge"].startswith("Bearer")
