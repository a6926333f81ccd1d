"""Fail when the name of a class or a file has a word that a newcomer cannot know.

Headway once had a dialect of its own. Its names are the field's standard terms now. So each word in
the name of a class, a module or a package has a row in the glossary, or is in the list of words
that mean the same everywhere (`common_words.txt`). For words that were given up, this check says
which one to write instead. Only names are looked at, not sentences.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path("src/headway")

GLOSSARY = Path("docs/glossary.md")

COMMON_WORDS = Path("scripts/common_words.txt")

RETIRED_WORDS = {
    "voice": "OutputLimits or SseRendering",
    "breath": "CooperativeYield",
    "crew": "Prefork",
    "doorkeeper": "ConnectionLimiter",
    "knock": "Connection",
    "knocks": "Connections",
    "board": "BroadcastStream",
    "everywhere": "GlobalCount",
    "kernel": "Sdk",
    "dialogue": "Messages2025 or Messages2026",
    "begun": "AcceptedCall or RequestStored",
}
"""Words that may be no part of any name, and what to write instead."""

RETIRED_NAMES = {
    # Classes
    "Bridge": "ServerChanges",
    "Changes": "Wakeups",
    "Enveloped": "Messages2026",
    "Feed": "SessionOutbox",
    "Following": "MirrorRun",
    "Gate": "FairSemaphore, or what the limit is of",
    "Handshake": "Http2025",
    "Lane": "Pipeline",
    "Link": "Connection",
    "Links": "ConnectionFactory",
    "Memory": "RestartState",
    "Modern": "Http2026",
    "News": "PubSub",
    "Nothing": "NoArguments",
    "Ordered": "ControlMessage",
    "Place": "what stands there: ReaderSlot, RedisAddress, PathInRoot, CutPoint …",
    "Places": "what stands there: WatchedStream, Admission …",
    "Post": "Inherited",
    "Posting": "SharedAppend",
    "Reach": "OutboxPosition",
    "Remembered": "RestartSummary",
    "Restartable": "RequestStored",
    "Revival": "what it does: recover, resume",
    "Speaker": "PipeResponse",
    "Strange": "UnexpectedArguments",
    "Tail": "StreamBuffer",
    "Watchers": "RunSubscriptions",
    "Way": "HandOverForm",
    "Work": "execute_queued, or what the work is",
    "Writer": "GroupCommit",
    # Constants
    "AGAIN": "RETRY_DELAY",
    "AT_ONCE": "how many of what: RECOVERED_AT_ONCE, SUBSCRIBE_AT_ONCE …",
    "LAST_WORDS": "whose limit it is: LAST_ANSWERS_TIMEOUT …",
    "LINGER": "whose it is: CLOSE_LINGER, WATCH_LINGER …",
    "LOOK_EVERY": "what is looked at: POLL_INTERVAL …",
    "PATIENCE": "whose limit it is: CANCEL_GRACE, ROUND_TRIP_TIMEOUT …",
    "PLACE": "what stands there",
    "PLACES": "what stands there",
    "SHARE": "what it is a share of: WINDOW_SHARE, POLL_SHARE …",
    "STOP_WITHIN": "what is stopped: STDIO_STOP_TIMEOUT …",
}
"""Names that may not stand alone; as a part of a longer name they say enough."""

RETIRED_MODULES = {
    "feed": "outbox",
    "lane": "pipeline",
    "lanes": "pipeline",
    "links": "connections",
    "news": "pubsub",
    "nothing": "no_pickle",
    "once": "submit",
    "patience": "retry",
    "places": "what stands there",
    "posting": "shared_append",
    "reach": "outbox",
    "tail": "stream_buffer",
    "tally": "counters",
    "ways": "handover_policy",
}
"""As `RETIRED_NAMES`, of modules and packages."""


def faults(path: Path, text: str) -> Iterator[str]:
    """Yield the retired words that a module uses as names, each with its file and line."""
    yield from _name_faults(path, 1, path.stem, RETIRED_MODULES)
    for line, name in names_in(ast.parse(text)):
        yield from _name_faults(path, line, name, RETIRED_NAMES)


def names_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the classes and the module's constants and type aliases, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if isinstance(node, ast.AnnAssign):
            targets = (node.target,)
        for target in targets:
            if isinstance(target, ast.Name):
                yield node.lineno, target.id


def unknown_faults(path: Path, text: str, known: set[str]) -> Iterator[str]:
    """Yield the words in names of classes and files that are not `known`, each with its place."""
    inside = path.relative_to(PACKAGE)
    names = [(1, part) for part in (*inside.parent.parts, inside.stem) if not part.startswith("__")]
    classes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
    names += [(node.lineno, node.name) for node in classes]
    for line, name in names:
        for word in words_of(name):
            if word not in known and not _singulars(word) & known:
                yield (
                    f"{path}:{line}: {name} has the word {word!r}, which is not in {GLOSSARY}; "
                    "write a word that is, or give it a row. A word that means the same "
                    f"everywhere goes into {COMMON_WORDS}"
                )


def known_words() -> set[str]:
    """Return the words of the glossary's rows, and the common words."""
    rows = re.findall(r"^\| \*\*(.+?)\*\*", GLOSSARY.read_text(), re.MULTILINE)
    terms = {word for row in rows for word in words_of(row) + words_of(row.replace("-", ""))}
    lines = COMMON_WORDS.read_text().splitlines()
    return terms.union(*(line.split() for line in lines if not line.startswith("#")))


def words_of(name: str) -> list[str]:
    """Return the words of a name, in lower case: `SseRendering` has `sse` and `rendering`."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]


def _singulars(word: str) -> set[str]:
    """Return what the word may be the plural of."""
    return {
        word.removesuffix(plural) + singular
        for plural, singular in (("s", ""), ("es", ""), ("ies", "y"))
        if word.endswith(plural)
    }


def _name_faults(path: Path, line: int, name: str, retired: dict[str, str]) -> Iterator[str]:
    bare = name.strip("_")
    if bare in retired:
        yield f"{path}:{line}: {name} is a retired name; write {retired[bare]}"
        return
    for word in words_of(bare):
        instead = RETIRED_WORDS.get(word)
        if instead:
            yield f"{path}:{line}: {name} has the retired word {word!r} in it; write {instead}"


def main() -> int:
    """Look at every module of the package; return 1 where a name has a retired or unknown word."""
    known = known_words()
    found: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        found += [*faults(path, text), *unknown_faults(path, text, known)]
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
