"""Servers in other languages, for `--peers`: what they need is installed below `.tools`."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

from bench.contenders import Contender
from bench.processes import ROOT

_MEASURES = ("calls", "events", "paced")


def typescript() -> tuple[Contender, ...]:
    """The official TypeScript servers of both releases, on node's HTTP server, with sessions."""
    folder = ROOT / "bench" / "typescript"
    modules: Path = _node_packages().install(folder)
    for program in folder.glob("*.mjs"):
        shutil.copy(program, modules.parent)  # where it finds them
    node = str(modules / ".bin" / "node")

    def command(program: str) -> tuple[str, ...]:
        return (node, str(modules.parent / program), "{port}")

    return (
        Contender("typescript-1", "the SDK 1.x", command("v1.mjs"), "", _MEASURES, ("2025",)),
        Contender("typescript-2", "the SDK 2.x", command("v2.mjs"), "", _MEASURES),
    )


def _node_packages() -> ModuleType:
    """The script that installs packages of npm; scripts are no package."""
    file = ROOT / "scripts" / "node_packages.py"
    spec = importlib.util.spec_from_file_location("node_packages", file)
    if spec is None or spec.loader is None:
        sys.exit(f"{file} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
