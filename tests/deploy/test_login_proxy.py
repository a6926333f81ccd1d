"""A real nginx logs people in, and says to a real server who calls (`[auth.proxy]`)."""

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.deploy.proxies import program
from tests.deploy.tools import needs

from headway.testing.server_process import ServerProcess, free_port

pytestmark = pytest.mark.anyio

SERVER = """
from mcp.server.auth.middleware.auth_context import get_access_token

from headway import Headway

mcp = Headway("behind")


@mcp.tool()
async def who() -> str:
    token = get_access_token()
    return token.subject if token else "nobody"
"""

TOML = """
[auth.proxy]
user_header = "X-Forwarded-User"
secret = "${PROXY_SECRET}"
scope_header = "X-Forwarded-Scopes"

[auth.tools]
"""

NGINX = """
pid {place}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200; }}
        location /mcp {{
            auth_basic "people";
            auth_basic_user_file {place}/people;
            proxy_set_header X-Forwarded-User $remote_user;
            proxy_set_header X-Forwarded-Scopes "";
            proxy_set_header X-Proxy-Secret "{secret}";
            proxy_buffering off;
            proxy_pass http://127.0.0.1:{server};
        }}
    }}
}}
"""

SECRET = "known to two programs"


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncGenerator[tuple[str, str]]:
    """The URL at nginx, and the server's own."""
    found = program("nginx")
    needs(found, "nginx")
    assert found is not None
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "headway.toml").write_text(TOML)
    (tmp_path / "people").write_text("alice:{PLAIN}wonder\nbob:{PLAIN}build\n")
    port = free_port()
    options = ("--config", str(tmp_path / "headway.toml"), "--journal", "memory:")
    target = f"{tmp_path / 'server.py'}:mcp"
    command = [sys.executable, "-m", "headway", "run", target, "--port", "{port}", *options]
    async with ServerProcess(command, env={"PROXY_SECRET": SECRET}) as server:
        config = tmp_path / "nginx.conf"
        config.write_text(
            NGINX.format(place=tmp_path, port=port, server=server.port, secret=SECRET)
        )
        user = " user root;" if os.geteuid() == 0 else ""
        words = [found, "-e", "stderr", "-g", f"daemon off;{user}", "-c", str(config)]
        async with ServerProcess(words, port=port):
            yield f"http://127.0.0.1:{port}/mcp", f"http://127.0.0.1:{server.port}/mcp"


def call(url: str, *headers: str) -> subprocess.CompletedProcess[str]:
    words = [word for header in headers for word in ("--header", header)]
    command = [sys.executable, "-m", "headway", "call", url, "who", "--retry-for", "1s", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def logged_in(user: str, password: str) -> str:
    return f"Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


async def test_who_has_logged_in_at_nginx_is_the_caller(proxied: tuple[str, str]) -> None:
    url, behind = proxied
    assert call(url, logged_in("alice", "wonder")).stdout == "alice\n"
    # The proxy's own word counts, whatever its user sends besides.
    claims = ("X-Forwarded-User: alice", "X-Proxy-Secret: guessed guessed")
    assert call(url, logged_in("bob", "build"), *claims).stdout == "bob\n"
    assert "HTTP 401" in call(url, logged_in("alice", "wrong")).stderr
    for headers in ((), claims[:1], claims, (logged_in("alice", "wonder"),)):
        refused = call(behind, *headers)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert "HTTP 401" in refused.stderr
