"""The pages of the dashboard, as HTML: pure functions of what the journals say.

Everything that a caller, a tool or a client has said is escaped. The only script fetches the same
page again every second and replaces its `main`.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from headway.cli.display.printable import one_line
from headway.cli.display.quantities import time_taken
from headway.cli.journal_access.read_runs import RunFilter
from headway.cli.journal_access.run_table import (
    ListedRun,
    progress_text,
    server_of,
    time_text,
    who_of,
)

SHOWN_TEXTS: Final = 50
"""Parts that a page has, the newest; likewise log messages."""

LONGEST_TEXT: Final = 20_000
"""Characters of one text on a page. `headway show` and `headway result` have all of it."""

PART_HEADER: Final = "x-dashboard-part"
"""A request with it gets the inside of `main` alone."""

_STYLE: Final = """
:root{color-scheme:light dark;--ok:#2a7d2e;--bad:#c33;--on:#2563c9}
@media(prefers-color-scheme:dark){:root{--ok:#7bc77e;--bad:#f08080;--on:#8ab4f8}}
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:1.5rem auto;padding:0 1rem}
body.stale main{opacity:.5}h1{font-size:1.3rem}h2{font-size:1.05rem;margin:1.5rem 0 .3rem}
table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:600}
td,th{padding:.25rem .6rem .25rem 0;vertical-align:top;border-bottom:1px solid #8883}
td:last-child{overflow-wrap:anywhere}.completed{color:var(--ok)}
.failed,.interrupted,.cancelled{color:var(--bad)}.working,.input_required{color:var(--on)}
pre{background:#8881;padding:.6rem;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
form{display:inline}progress{width:8rem;margin-right:.5rem}nav a{margin-right:1rem}
"""

_SCRIPT: Final = """
const main = document.querySelector("main");
async function refresh() {
  if (document.hidden || main.matches(":active")) return;
  let text = null;
  try {
    const answer = await fetch(location.href, {headers: {"X-Dashboard-Part": "main"}});
    if (answer.ok) text = await answer.text();
  } catch {}
  document.body.classList.toggle("stale", text === null);
  if (text !== null && text !== main.innerHTML) main.innerHTML = text;
}
setInterval(refresh, 1000);
"""


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; "
    f"script-src 'sha256-{_digest(_SCRIPT)}'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page: its own style and script, and nothing else."""

_VIEWS: Final = (("Going on", ""), ("All", "?all=1"), ("Failed", "?failed=1"))


class RunPage(NamedTuple):
    """The facts and texts that the page of one run shows."""

    reference: str
    run: str
    """Its id."""
    has_ended: bool
    facts: Iterable[tuple[str, str]]
    parts: Sequence[str]
    logs: Sequence[str]
    title: str
    """Of `text`: Result, Error."""
    text: str
    is_retriable: bool


def render_page(title: str, main: str) -> str:
    """Return a whole page. `main` is HTML."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1>{_render_views()}<main>{main}</main>"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def render_list(rows: Sequence[ListedRun], wanted: RunFilter, now: float) -> str:
    """Return the inside of the page that lists runs."""
    if not rows:
        return f"<p>{_nothing_text(wanted)}</p>"
    head = "".join(
        f"<th>{name}</th>"
        for name in ("Run", "Started", "Took", "State", "Tool", "Who", "Server", "Progress, error")
    )
    return f"<table><tr>{head}</tr>{''.join(_render_row(row, now) for row in rows)}</table>"


def render_run(page: RunPage) -> str:
    """Return the inside of the page of one run."""
    return "".join(
        [
            "<table>",
            *(f"<tr><th>{escape(n)}</th><td>{_line(t)}</td></tr>" for n, t in page.facts),
            "</table>",
            *_render_buttons(page),
            _render_texts("Parts", page.parts),
            _render_texts("Logs", page.logs),
            f"<h2>{page.title}</h2><pre>{_cut(page.text)}</pre>" if page.text else "",
        ]
    )


def render_error(text: str) -> str:
    """Return the inside of a page that says what went wrong."""
    return f'<p class="failed">{escape(text)}</p>'


def _nothing_text(wanted: RunFilter) -> str:
    if wanted.is_failed:
        return "No call has failed."
    return "Nothing was called yet." if wanted.every else "No call goes on."


def _render_views() -> str:
    links = "".join(f'<a href="/{query}">{name}</a>' for name, query in _VIEWS)
    return f"<nav>{links}</nav>"


def _render_row(listed: ListedRun, now: float) -> str:
    run = listed.run
    cells = (
        f'<a href="/runs/{escape(run.run)}">{escape(run.reference)}</a>',
        escape(time_text(run.times.accepted, now)),
        escape(time_taken(run.seconds_at(now))),
        f'<span class="{run.state.value}">{run.state.value}</span>',
        _line(run.tool or run.method),
        _line(who_of(run)),
        _line(server_of(listed)),
        _line(run.error) if run.error else _render_progress(listed),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _render_progress(listed: ListedRun) -> str:
    run = listed.run
    bar = ""
    if run.total and run.progress is not None:
        bar = f'<progress max="{run.total:g}" value="{run.progress:g}"></progress>'
    return bar + _line(progress_text(run))


def _render_buttons(page: RunPage) -> Iterator[str]:
    where = f"/runs/{escape(page.run)}"
    if not page.has_ended:
        yield f'<form method="post" action="{where}/cancel"><button>Stop it</button></form>'
    elif page.is_retriable:
        yield f'<form method="post" action="{where}/retry"><button>Do it again</button></form>'


def _render_texts(title: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    newest = f", the newest {SHOWN_TEXTS}" if len(texts) > SHOWN_TEXTS else ""
    shown = "\n".join(_cut(text) for text in texts[-SHOWN_TEXTS:])
    return f"<h2>{title} ({len(texts)}{newest})</h2><pre>{shown}</pre>"


def _line(text: str) -> str:
    return escape(one_line(text)) or "-"


def _cut(text: str) -> str:
    left_out = len(text) - LONGEST_TEXT
    more = f"\n… {left_out} characters more" if left_out > 0 else ""
    return escape(text[:LONGEST_TEXT] + more)
