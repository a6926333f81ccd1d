"""Where `headway run` listens besides a port: sockets in the file system, inherited ones, TLS."""

import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trustme
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.program import Programs
from tests.kit.waits import PATIENCE

LIST_TOOLS = {
    "jsonrpc": "2.0", "id": 1, "method": "tools/list",
    "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }},
}  # fmt: skip

HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/list",
}


def tools_over(client: httpx2.Client, url: str) -> list[str]:
    answer = client.post(url, json=LIST_TOOLS, headers=HEADERS, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return [tool["name"] for tool in answer.json()["result"]["tools"]]


def certify(directory: Path) -> tuple[Path, Path]:
    """A certificate of localhost with its key, and the certificate of who has signed it."""
    authority = trustme.CA()
    certificate, trusted = directory / "server.pem", directory / "ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(trusted)
    return certificate, trusted


def over_file(file: Path) -> httpx2.Client:
    return httpx2.Client(transport=httpx2.HTTPTransport(uds=str(file)))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_socket_in_the_file_system_is_for_its_owner_and_goes_with_the_server(
    programs: Programs, tmp_path: Path, workers: str
):
    file = tmp_path / "headway.sock"
    program = programs.start("run", str(EXAMPLE), "--uds", str(file), "--workers", workers)
    assert f"at http://unix:{file}:/mcp" in program.wait_for("serving")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with over_file(file) as client:
        assert "count" in tools_over(client, "http://localhost/mcp")
    program.interrupt()
    assert program.finish().code == 0
    assert not file.exists()


def test_a_socket_that_was_left_is_replaced_and_one_in_use_is_not(
    programs: Programs, tmp_path: Path
):
    file = tmp_path / "headway.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(file))
    program = programs.start("run", str(EXAMPLE), "--uds", str(file))
    program.wait_for("serving")
    second = programs.run("run", str(EXAMPLE), "--uds", str(file))
    assert second.code == 3
    assert "another process listens there" in second.err
    with over_file(file) as client:
        assert tools_over(client, "http://localhost/mcp")


def test_a_file_that_is_no_socket_is_left_alone(command: Command, tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    done = command("run", str(EXAMPLE), "--uds", str(file))
    assert done.code == 3
    assert "is no socket" in done.err
    assert file.read_text() == "mine"


def test_an_inherited_socket_is_served_as_by_systemd(tmp_path: Path):
    """The way of a `.socket` unit, with `Type=notify`: descriptor 3 and `NOTIFY_SOCKET`."""
    notices = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, socket.socket() as listener:
        told.bind(str(notices))
        told.settimeout(PATIENCE)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        number = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "headway", "run", str(EXAMPLE), "--fd", str(number)],
            pass_fds=[number], stderr=subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": str(notices), "XDG_DATA_HOME": str(tmp_path)},
        )  # fmt: skip
        with process:
            try:
                assert told.recv(100) == b"READY=1"
                with httpx2.Client() as client:
                    assert tools_over(client, url)
                process.terminate()
                assert told.recv(100) == b"STOPPING=1"
                assert process.wait(PATIENCE) == 0
                # The service manager goes on to listen: connections wait for the next start.
                with socket.create_connection(listener.getsockname(), timeout=PATIENCE):
                    pass
            finally:
                process.kill()


@pytest.mark.parametrize("number", ["0", "99"])
def test_a_descriptor_that_is_no_listening_socket_is_refused(programs: Programs, number: str):
    refused = programs.run("run", str(EXAMPLE), "--fd", number)
    assert refused.code == 3
    assert f"--fd {number} is no socket" in refused.err


def test_tls_is_spoken_with_a_certificate(programs: Programs, tmp_path: Path):
    certificate, trusted = certify(tmp_path)
    program = programs.start(
        "run", str(EXAMPLE), "--host", "localhost", "--port", "0", "--ssl-certfile",
        str(certificate),
    )  # fmt: skip
    url = program.wait_for("serving").split(" at ")[1].split()[0]
    assert url.startswith("https://localhost:")
    with httpx2.Client(verify=ssl.create_default_context(cafile=trusted)) as client:
        assert "count" in tools_over(client, url)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n", b"408"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, b"431"),
    ],
)
def test_a_request_that_is_refused_over_tls_ends_its_connection(
    programs: Programs, tmp_path: Path, sent: bytes, status: bytes
):
    """TLS has no half-closed connection: what closed one half of it raised, and closed nothing."""
    certificate, trusted = certify(tmp_path)
    program = programs.start(
        "run", str(EXAMPLE), "--host", "localhost", "--port", "0", "--ssl-certfile",
        str(certificate), "--set", "head_timeout=1",
    )  # fmt: skip
    port = int(program.wait_for("serving").split(":")[3].split("/")[0])
    context = ssl.create_default_context(cafile=trusted)
    with (
        socket.create_connection(("localhost", port), timeout=PATIENCE) as bare,
        context.wrap_socket(bare, server_hostname="localhost") as connection,
    ):
        connection.sendall(sent)
        heard = b""
        while more := connection.recv(65536):  # until the server closes
            heard += more
    assert heard.startswith(b"HTTP/1.1 " + status)
    program.interrupt()
    assert "Traceback" not in program.finish().err


@pytest.mark.parametrize("options", [["--workers", "2"], ["--reload"]])
def test_a_server_that_does_not_start_leaves_no_socket(
    programs: Programs, tmp_path: Path, options: list[str]
):
    """The parent can import the server, and its processes cannot."""
    code = "import os, sys\nif 'HEADWAY_METRICS_DIRECTORY' in os.environ: sys.exit(3)\n"
    (tmp_path / "own.py").write_text(code + "from headway import Headway\nmcp = Headway('own')\n")
    file = tmp_path / "x.sock"
    refused = programs.run("run", "own.py", "--uds", str(file), *options)
    assert refused.code == 3, refused.err
    assert not file.exists()


def test_the_place_that_was_named_last_is_the_one(programs: Programs, tmp_path: Path):
    file = tmp_path / "x.sock"
    (tmp_path / "headway.toml").write_text(f'[server]\nuds = "{file}"\n')
    program = programs.start("run", str(EXAMPLE), "--port", "0")
    assert "http://127.0.0.1:" in program.wait_for("serving")
    by_variable = programs.start("run", str(EXAMPLE), env={"HEADWAY_PORT": "0"})
    assert "http://127.0.0.1:" in by_variable.wait_for("serving")
    by_file = programs.start("run", str(EXAMPLE))
    assert f"http://unix:{file}:" in by_file.wait_for("serving")


def test_a_certificate_that_cannot_be_used_is_named(command: Command, tmp_path: Path):
    file = tmp_path / "none.pem"
    missing = command("run", str(EXAMPLE), "--ssl-certfile", str(file))
    assert (missing.code, f"--ssl-certfile {file} cannot be used" in missing.err) == (3, True)
    file.write_text("nothing")
    assert "cannot be used" in command("run", str(EXAMPLE), "--ssl-certfile", str(file)).err
    alone = command("run", str(EXAMPLE), "--ssl-keyfile", str(file))
    assert "needs the certificate" in alone.err


def test_two_places_are_one_too_many(command: Command, tmp_path: Path):
    done = command("run", str(EXAMPLE), "--uds", str(tmp_path / "a"), "--fd", "3")
    assert done.code == 2
    assert "--uds cannot go with --fd" in done.err
