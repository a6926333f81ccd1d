"""SIGTERM, as a process manager sends it."""

import json
import signal

import httpx2
import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import NapCall
from tests.kit.program import Programs
from tests.kit.waits import PATIENCE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_may_finish_after_a_signal(programs: Programs, number: int) -> None:
    program, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", "--journal", "memory:")
    call = NapCall(url, 2)
    call.start()
    call.until_it_naps()
    program.interrupt(number)
    program.wait_for("finishing what runs (1 call, 30 s at most); Ctrl+C again stops at once")
    ready = httpx2.get(url.replace("/mcp", "/readyz"))
    assert ready.status_code == 503
    call.join(PATIENCE)
    assert "rested" in call.answer
    assert program.finish().code == 0


def test_a_call_that_outlasts_the_grace_is_told_that_the_server_stopped(programs: Programs) -> None:
    options = ("--port", "0", "--journal", "memory:", "--grace", "300ms")
    program, url = programs.serve("run", f"{EXAMPLE}:mcp", *options)
    call = NapCall(url, 600)
    call.start()
    call.until_it_naps()
    program.interrupt(signal.SIGTERM)
    finished = program.finish()
    call.join(PATIENCE)
    data = call.answer.rpartition("data: ")[2] or call.answer
    assert "the server stopped" in json.loads(data)["error"]["message"]
    assert "longer than 0.3 s" in finished.err
    assert finished.code == 0
