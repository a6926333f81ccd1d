"""Ready-made long-running tools, written only with what every author has.

`build` puts them into the server that `headway serve` runs; read `files`, `search`, `batch` and
`demo` to see how a tool is written.
"""

from collections.abc import Iterable, Iterator, Sequence
from inspect import getdoc
from pathlib import Path
from urllib.parse import unquote

from mcp_types import ToolAnnotations

from headway import Headway
from headway.tools.batch import BatchTool
from headway.tools.config import Config
from headway.tools.demo import long_task
from headway.tools.files import INDEX_FILE, FileTools, Limits
from headway.tools.roots import Roots, database_files
from headway.tools.search import Api, Cache, Documents, SearchTool, Source, open_database
from headway.tools.timing import SystemClock

__all__ = ["Config", "Limits", "build", "files_of"]

CACHE_FILE = "answers.sqlite"
"""Earlier answers of `search`, under the server's data directory."""

INSTRUCTIONS = """\
Long-running tools that report progress while they work. process_files reads files below \
{roots}. search asks {sources}. long_task only takes time, to try out a client."""

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def build(
    roots: Sequence[Path],
    data: Path,
    *,
    limits: Limits | None = None,
    config: Config | None = None,
    own: Iterable[Path] = (),
) -> Headway:
    """Return the server with all the tools, reading below `roots` and keeping its own files in
    `data`.

    `process_batch` is among them when the configuration allows a host. No tool reads or lists the
    files in `data`, the configuration, the databases that it names, or the server's `own` other
    files, such as its journal, wherever they are.

    Raises:
        SetupError: A root is missing or not a directory.
    """
    config = config or Config()
    limits = limits or config.files
    allowed = Roots(
        roots,
        private=data,
        own=[*own, *_files_of(config)],
        private_names=limits.private,
        hidden=limits.hidden,
    )
    files = FileTools(allowed, data, limits)
    sources = _make_sources(allowed, data, config)
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
    )(SearchTool(sources, deadline=config.deadline, secrets=config.secrets).search)
    if config.allows_hosts:
        mcp.tool(
            title="Process a batch",
            description=f"{getdoc(BatchTool.process_batch)}\n\nAllowed hosts: {config.hosts}.",
            timeout="6h",
            concurrency=4,
            annotations=ToolAnnotations(read_only_hint=False, open_world_hint=True),
        )(BatchTool(config.hosts, limits=config.batch, secrets=config.secrets).process_batch)
    mcp.tool(title="Long task", timeout="30m", annotations=_READS)(long_task)
    return mcp


def _make_sources(roots: Roots, data: Path, config: Config) -> list[Source]:
    clock = SystemClock()
    sources: list[Source] = [Documents(roots, data / INDEX_FILE)]
    sources += [open_database(name, databank) for name, databank in config.databases]
    sources += [
        Api(name, endpoint, clock, egress=config.egress, secrets=config.secrets)
        for name, endpoint in config.endpoints
    ]
    if config.cache_ttl is not None:
        sources.append(Cache("cache", data / CACHE_FILE, config.cache_ttl, clock))
    return sources


def files_of(url: str) -> list[Path]:
    """Return the files of an SQLite database or journal, by its URL; none for others."""
    scheme, _, path = url.partition(":///")
    if not scheme.startswith("sqlite") or not path:
        return []
    return database_files(Path(unquote(path.partition("?")[0])).absolute())


def _files_of(config: Config) -> Iterator[Path]:
    if config.file is not None:
        yield config.file
    urls = [databank.url for _, databank in config.databases]
    for url in [*urls, *filter(None, [config.journal])]:
        yield from files_of(url)
