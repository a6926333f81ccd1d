"""Where `process_batch` connects: to the address that was checked, as the name that was asked."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.tools.raw_servers import Start, allowed, batch, raw_servers, reply

import headway.tools.web.hosts
from headway.tools.web.hosts import CheckedTransport, Host, Hosts, is_public

pytestmark = pytest.mark.anyio


@pytest.fixture
async def start() -> AsyncGenerator[Start]:
    async with raw_servers() as started:
        yield started


async def test_a_redirect_to_an_allowed_name_is_resolved_and_checked_too(start: Start) -> None:
    web = await start(lambda _: reply(302, Location=f"http://inner.test:{web.port}/"))
    hosts = {"api.test": allowed(web.port), "inner.test": Host((web.port,))}
    outcome = await batch(hosts, [1], {"url": f"http://api.test:{web.port}/"})
    assert "'inner.test' is at a private address" in outcome.result["failures"][0]["reason"]
    assert len(web.heads) == 1


async def test_a_name_that_changes_its_address_gains_nothing(start: Start) -> None:
    """DNS rebinding: the address that was looked at is the one that is connected to."""
    web = await start(lambda _: reply())
    looked: list[str] = []

    async def rebinding(name: str, port: int) -> Sequence[str]:
        looked.append(name)
        return ["127.0.0.1"] if len(looked) == 1 else ["169.254.169.254"]

    request = {"url": f"http://rebind.test:{web.port}/"}
    hosts = {"rebind.test": allowed(web.port)}
    outcome = await batch(hosts, [1], request, resolver=rebinding)
    assert outcome.result["ok"] == 1
    assert looked == ["rebind.test"]
    assert web.header("host") == [f"rebind.test:{web.port}"]


def test_addresses_of_the_cloud_are_nobody_s() -> None:
    assert not is_public("168.63.129.16")
    assert not is_public("::ffff:168.63.129.16")
    assert not is_public("64:ff9b::a00:1")
    assert is_public("168.63.129.17")


def certificate(place: Path, *names: str) -> tuple[Path, Path]:
    """A certificate for names, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([
                *map(x509.DNSName, names), x509.IPAddress(ip_address("127.0.0.1"))
            ]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file, secret = place / "cert.pem", place / "key.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file, secret


@contextmanager
def trusted(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    context = ssl.create_default_context(cafile=str(file))
    with monkeypatch.context() as patch:
        patch.setattr(headway.tools.web.hosts, "tls", lambda: context)
        yield


async def test_tls_is_for_the_name_although_the_address_is_connected_to(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, secret = certificate(tmp_path, "api.test")
    asked: list[str | None] = []

    def note(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        asked.append(name)

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file, secret)
    server.sni_callback = note
    web = await start(lambda _: reply(), server)
    hosts = {name: allowed(web.port) for name in ("api.test", "other.test")}
    with trusted(file, monkeypatch):
        good = await batch(hosts, [1], {"url": f"https://api.test:{web.port}/"})
        # The certificate holds for 127.0.0.1 too, which nobody asked for.
        request = {"url": f"https://other.test:{web.port}/{{item}}", "method": "POST"}
        bad = await batch(hosts, [1], request)
    assert good.result["ok"] == 1, good.result
    assert web.header("host") == [f"api.test:{web.port}"]
    assert asked == ["api.test", "other.test"]
    assert "certificate" in bad.result["failures"][0]["reason"].lower()


async def test_no_variable_of_a_proxy_changes_where_a_tool_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        hosts = Hosts({"127.0.0.1": Host(ports=(port,), private=True)})
        transport = CheckedTransport(hosts)
        response = await transport.handle_async_request(
            httpx2.Request("GET", f"http://127.0.0.1:{port}/here")
        )
        assert response.status_code == 200
        await response.aclose()
        await transport.aclose()
    assert asked == [b"/here"]
