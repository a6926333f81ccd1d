"""Ready-made long-running tools, written only with what every author has.

`build` puts them into the server that `headway serve` runs; read `files`, `search`, `batch` and
`demo` to see how a tool is written.
"""

from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path

from mcp_types import ToolAnnotations

from headway import Headway
from headway.tools.batch import BatchTool
from headway.tools.config import Config
from headway.tools.demo import long_task
from headway.tools.files import INDEX_FILE, FileTools, Limits
from headway.tools.roots import Roots
from headway.tools.search import Api, Cache, Database, Documents, SearchTool, Source
from headway.tools.timing import SystemClock

__all__ = ["Config", "Limits", "build"]

CACHE_FILE = "answers.sqlite"
"""Earlier answers of `search`, under the server's data directory."""

INSTRUCTIONS = """\
Long-running tools that report progress while they work. process_files reads files below \
{roots}; a relative directory starts at the first of these. search asks {sources}. long_task only \
takes time, to try out a client."""

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def build(
    roots: Sequence[Path],
    data: Path,
    *,
    limits: Limits | None = None,
    config: Config | None = None,
) -> Headway:
    """The server with all the tools, reading below `roots` and keeping its own files in `data`.

    `process_batch` is among them when the configuration allows a host.

    Raises:
        SetupError: A root is missing or not a directory.
    """
    config = config or Config()
    allowed = Roots(roots, private=data)
    files = FileTools(allowed, data, limits or config.files)
    sources = _sources(allowed, data, config)
    names = ", ".join(source.name for source in sources)
    mcp = Headway("headway-tools", instructions=INSTRUCTIONS.format(roots=allowed, sources=names))
    mcp.tool(
        title="Process files",
        description=getdoc(files.process_files),
        timeout="6h",
        concurrency=4,
        # It writes nothing but the server's own index, and doing it again changes nothing.
        annotations=ToolAnnotations(
            read_only_hint=False,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )(files.process_files)
    mcp.tool(
        title="Search",
        description=f"{getdoc(SearchTool.search)}\n\nSources: {names}.",
        timeout=config.deadline + 30,
        hand_over="never",
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=bool(config.endpoints)),
    )(SearchTool(sources, deadline=config.deadline).search)
    if config.allows_hosts:
        mcp.tool(
            title="Process a batch",
            description=f"{getdoc(BatchTool.process_batch)}\n\nAllowed hosts: {config.hosts}.",
            timeout="6h",
            concurrency=4,
            annotations=ToolAnnotations(read_only_hint=False, open_world_hint=True),
        )(BatchTool(config.hosts, limits=config.batch).process_batch)
    mcp.tool(title="Long task", timeout="30m", annotations=_READS)(long_task)
    return mcp


def _sources(roots: Roots, data: Path, config: Config) -> list[Source]:
    clock = SystemClock()
    sources: list[Source] = [Documents(roots, data / INDEX_FILE)]
    sources += [Database(name, databank) for name, databank in config.databases]
    sources += [Api(name, endpoint, clock) for name, endpoint in config.endpoints]
    if config.cache_ttl is not None:
        sources.append(Cache("cache", data / CACHE_FILE, config.cache_ttl, clock))
    return sources
