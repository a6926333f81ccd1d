"""The proxies of `deploy/`, each as a process with the configuration that is shipped.

Only names and ports are other ones: what is replaced is said in `SHIPPED`, and has to be there.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headway.testing.server_process import ServerProcess, free_port

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = CHECKOUT / "deploy"
BINARIES: Final = CHECKOUT / ".tools" / "deploy" / "bin"

HOST: Final = "mcp.example.com"
"""The name under which clients know the server."""


@dataclass(frozen=True)
class Shipped:
    """A configuration, and what runs it."""

    file: str
    listens: str
    """How it says where it listens."""
    here: str
    """The same with an address of this machine; `{port}` is the port."""
    command: tuple[str, ...]
    check: tuple[str, ...]
    """Has the configuration checked, and is over."""
    upstream: tuple[str, str] = ("headway-{number}:8000", "127.0.0.1:{port}")
    """How it says where a replica is, and the same here."""


SHIPPED: Final = {
    "nginx": Shipped(
        "nginx.conf", "listen 8080;", "listen 127.0.0.1:{port};",
        ("nginx", "-e", "stderr", "-g", "daemon off;{user}", "-c", "{file}"),
        ("nginx", "-t", "-e", "stderr", "-c", "{file}"),
    ),
    "caddy": Shipped(
        "Caddyfile", "\n:8080 {", "\nhttp://:{port} {",
        ("caddy", "run", "--adapter", "caddyfile", "--config", "{file}"),
        ("caddy", "validate", "--adapter", "caddyfile", "--config", "{file}"),
    ),
    "haproxy": Shipped(
        "haproxy.cfg", "bind :8080", "bind 127.0.0.1:{port}",
        ("haproxy", "-db", "-f", "{file}"),
        ("haproxy", "-c", "-f", "{file}"),
    ),
    "envoy": Shipped(
        "envoy.yaml", "0.0.0.0, port_value: 8080", "127.0.0.1, port_value: {port}",
        ("envoy", "--log-level", "warning", "--use-dynamic-base-id", "--concurrency", "2",
         "--config-path", "{file}"),
        ("envoy", "--log-level", "warning", "--mode", "validate", "--config-path", "{file}"),
        ("headway-{number}, port_value: 8000", "127.0.0.1, port_value: {port}"),
    ),
}  # fmt: skip


def program(name: str) -> str | None:
    """Where the proxy `name` is on this machine."""
    return shutil.which(name, path=f"{BINARIES}:/usr/sbin:/usr/local/sbin") or shutil.which(name)


def configured(name: str, replicas: Sequence[int], port: int, place: Path) -> Path:
    """The configuration of a proxy for replicas on ports of this machine, in a file in `place`."""
    shipped = SHIPPED[name]
    text = _with_servers((DEPLOY / shipped.file).read_text(), len(replicas))
    changes = {shipped.listens: shipped.here.replace("{port}", str(port))}
    for number, replica in enumerate(replicas, 1):
        old, new = shipped.upstream
        changes[old.replace("{number}", str(number))] = new.replace("{port}", str(replica))
    for old, new in changes.items():
        assert old in text, f"{shipped.file} has no {old!r} any more"
        text = text.replace(old, new)
    if name == "nginx":
        text = text.replace("/tmp/", f"{place}/")
    file = place / shipped.file
    file.write_text(text)
    return file


def _with_servers(text: str, many: int) -> str:
    """The configuration with more replicas than are shipped: lines like that of the second one."""
    lines: list[str] = []
    for line in text.splitlines():
        lines.append(line)
        if "headway-2:" in line:
            lines += [line.replace("headway-2:", f"headway-{n}:") for n in range(3, many + 1)]
    return "\n".join(lines) + "\n"


def proxy(name: str, replicas: Sequence[int], place: Path) -> ServerProcess:
    """A proxy before replicas on these ports, not started. It is ready when a replica answers."""
    port = free_port()
    file = configured(name, replicas, port, place)
    found = program(name)
    assert found is not None, f"{name} is missing"
    # Workers of a root's nginx would be somebody who may not write where tests do.
    user = " user root;" if os.geteuid() == 0 else ""
    command = SHIPPED[name].command
    words = [word.replace("{file}", str(file)).replace("{user}", user) for word in command]
    env = {"HOME": str(place), "XDG_DATA_HOME": str(place), "XDG_CONFIG_HOME": str(place)}
    return ServerProcess([found, *words[1:]], port=port, env=env)


def replica(journal: Path, *options: str) -> ServerProcess:
    """A replica, not started."""
    target = f"{CHECKOUT / 'tests' / 'deploy' / 'server.py'}:mcp"
    command = [sys.executable, "-m", "headway", "run", target, "--port", "{port}"]
    told = ("--journal", f"sqlite:///{journal}", "--allow-host", HOST)
    return ServerProcess([*command, *told, *options])
