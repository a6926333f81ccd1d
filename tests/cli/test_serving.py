"""The uvicorn driver, with apps that are nothing but ASGI."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest
from tests.kit.waits import PATIENCE

from headway.cli.exit_codes import Broken
from headway.cli.server.http_server import App, serving
from headway.cli.server.listener import bind, listening
from headway.errors import HeadwayError, SetupError
from headway.testing.server_process import free_port

pytestmark = pytest.mark.anyio


class Hello:
    """Answers everything, and notes what happens to it."""

    def __init__(self, startup: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self.notes: list[str] = []
        self._startup = startup

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            if self._startup is not None:
                await self._startup()
            self.notes.append("started")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.notes.append("stopped")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def drain(self) -> None:
        self.notes.append("drained")


async def test_an_app_is_served_drained_and_stopped_in_that_order():
    app = Hello()
    async with serving(app) as origin, httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(origin)).text == "hello"
    assert app.notes == ["started", "drained", "stopped"]


async def test_a_busy_port_is_a_setup_error():
    with listening("127.0.0.1", 0) as taken:
        port = taken.port
        with pytest.raises(SetupError, match=f"port {port} on 127.0.0.1 is in use; .*--port"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_foreign_host_is_a_setup_error(host: str):
    with pytest.raises(SetupError, match="--host"):
        bind(host, 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_as_a_url_wants_it():
    try:
        listener = bind("::1", 0)
    except SetupError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        assert listener.origin == f"http://[::1]:{listener.port}"


async def _enter(app: App) -> None:
    async with serving(app):
        raise AssertionError("it must not start")


async def test_a_setup_error_at_startup_reaches_the_caller(caplog: pytest.LogCaptureFixture):
    async def corrupt() -> None:
        raise SetupError("the journal is corrupt")

    with pytest.raises(SetupError, match="the journal is corrupt"):
        await _enter(Hello(corrupt))
    assert not caplog.records


async def test_an_error_in_a_group_reaches_the_caller_as_itself():
    async def grouped() -> None:
        raise ExceptionGroup("from a task group", [SetupError("inside")])

    with pytest.raises(SetupError, match="inside"):
        await _enter(Hello(grouped))


async def test_a_servers_own_error_at_startup_is_broken_with_its_cause():
    async def wrong() -> None:
        raise KeyError("DATABASE_URL")

    with pytest.raises(Broken, match="startup code raised KeyError") as caught:
        await _enter(Hello(wrong))
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_port_is_free_again_after_a_failed_start():
    async def wrong() -> None:
        raise SetupError("no")

    with bind("127.0.0.1", 0) as probe:
        port = probe.port
    with pytest.raises(SetupError, match="no"):
        async with serving(Hello(wrong), port=port):
            pass
    async with serving(Hello(), port=port) as origin:
        assert origin.endswith(f":{port}")


async def test_nobody_is_let_in_before_the_app_has_started():
    port = free_port()

    async def knock() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    app = Hello(knock)
    async with serving(app, port=port) as origin, httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(origin)).text == "hello"


async def test_a_port_that_another_takes_meanwhile_is_a_setup_error():
    port = free_port()

    async def other() -> None:
        taken.listen()

    app = Hello(other)
    says = f"port {port} on 127.0.0.1 is in use"
    with bind("127.0.0.1", port) as taken, pytest.raises(SetupError, match=says):
        async with serving(app, port=port):
            pass
    assert app.notes == ["started", "stopped"]


async def test_what_fails_inside_ends_the_server_too():
    app = Hello()
    with pytest.raises(ZeroDivisionError):
        async with serving(app):
            raise ZeroDivisionError
    assert app.notes[-1] == "stopped"


async def test_a_shutdown_that_raises_is_an_error_and_logged(caplog: pytest.LogCaptureFixture):
    class Bad(Hello):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            raise KeyError("too late")

    with pytest.raises(HeadwayError, match="did not stop cleanly: 'too late'"):
        async with serving(Bad()):
            pass
    assert [record.message for record in caplog.records] == [
        "the server's own shutdown code raised"
    ]


async def test_a_drain_that_fails_does_not_keep_the_server_alive():
    class Bad(Hello):
        async def drain(self) -> None:
            raise RuntimeError("cannot")

    async with asyncio.timeout(PATIENCE), serving(Bad()):
        pass
