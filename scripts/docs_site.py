"""The documentation as a site in `out/site`, which a browser can read without a network.

    python scripts/docs_site.py [--serve]

The pages are those that README leads to, link by link, where they are: so links hold on the site as
they do in the checkout. A link that leads nowhere fails. The menu is the index by kind of
`docs/README.md`. Zensical builds the site; it comes from PyPI, at locked versions, into
`.tools/docs`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parent.parent
UV: Final = CHECKOUT / ".tools" / ".venv" / "bin" / "uv"
PLACE: Final = CHECKOUT / ".tools" / "docs"
OUT: Final = CHECKOUT / "out"
PAGES: Final = OUT / "pages"
SITE: Final = OUT / "site"

LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)[^)]*\)")
CODE: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)

CONFIGURATION: Final = """\
[project]
site_name = "Headway"
site_description = "The streaming server for long-running MCP tools"
docs_dir = "pages"
site_dir = "site"
copyright = "Apache-2.0"
nav = {nav}

[project.theme]
language = "en"
font = false  # those of the reader's system: nothing is asked of other servers
features = ["navigation.indexes", "navigation.sections", "navigation.top", "content.code.copy"]

[[project.theme.palette]]
media = "(prefers-color-scheme)"

# Diagrams stay code: to draw them, the theme would load a script from another server.
[project.markdown_extensions]
tables = {{}}
"pymdownx.highlight" = {{}}
"pymdownx.superfences" = {{}}

[project.markdown_extensions.toc]
permalink = true
slugify = {{ object = "pymdownx.slugs.slugify", kwds = {{ case = "lower" }} }}
"""


def linked(page: Path) -> Iterator[Path]:
    """Yield the files of the checkout that a page leads to."""
    for _, link in LINK.findall(CODE.sub("", page.read_text())):
        target = (page.parent / link).resolve()
        if ":" not in link and target.is_relative_to(CHECKOUT) and target.is_file():
            yield target


def reached(first: Path) -> set[Path]:
    """Return all files that a page leads to, itself and those of other pages included."""
    seen, left = {first}, [first]
    while left:
        page = left.pop()
        for target in linked(page) if page.suffix == ".md" else ():
            if target not in seen:
                seen.add(target)
                left.append(target)
    return seen


Menu = list[dict[str, "str | Menu"]]
"""Entries of one name each: the path of a page, or a menu below it."""


def menu(index: Path) -> Menu:
    """Return the menu: README, then the lists by kind of the index."""
    kinds = index.read_text().partition("## By what you want")[2].split("\n### ")[1:]
    place = index.parent
    sections: Menu = [{"Headway": "README.md"}, {"All pages": "docs/README.md"}]
    for kind in kinds:
        heading, _, rest = kind.partition("\n")
        entries: Menu = [
            {name: str((place / link).resolve().relative_to(CHECKOUT))}
            for name, link in LINK.findall(rest)
        ]
        sections.append({heading: entries})
    return sections


def as_toml(menu: Menu) -> str:
    """Return a menu as TOML has it in one line."""

    def entry(name: str, what: "str | Menu") -> str:
        value = json.dumps(what) if isinstance(what, str) else as_toml(what)
        return f"{{ {json.dumps(name)} = {value} }}"

    return f"[{', '.join(entry(*pair) for one in menu for pair in one.items())}]"


def stage() -> None:
    """Copy the pages, and what they link to, and write the configuration."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    for file in reached(CHECKOUT / "README.md"):
        target = PAGES / file.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    nav = as_toml(menu(CHECKOUT / "docs" / "README.md"))
    (OUT / "zensical.toml").write_text(CONFIGURATION.format(nav=nav))


def asked_of_others() -> list[str]:
    """Return what a page of the site would load from another server by itself."""
    loads = re.compile(
        r"""<(?:script|img|iframe|link rel="stylesheet")[^>]*"((?:https?:)?//[^"]*)"""
    )
    return sorted({url for page in SITE.rglob("*.html") for url in loads.findall(page.read_text())})


def main() -> int:
    """Build the site, or with `--serve` show it on this machine and build it when pages change."""
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(PLACE)}
    sync = [UV, "sync", "--frozen", "--quiet", "--only-group", "docs"]
    subprocess.run(sync, cwd=CHECKOUT, env=env, check=True)
    stage()
    words = ["serve"] if "--serve" in sys.argv[1:] else ["build", "--strict", "--clean"]
    command = [PLACE / "bin" / "zensical", *words, "--config-file", OUT / "zensical.toml"]
    code = subprocess.run(command, cwd=OUT, env=env | {"NO_COLOR": "1"}, check=False).returncode
    for url in asked_of_others():
        print(f"a page loads {url}; the site has to do without other servers")
        code = code or 1
    return code


if __name__ == "__main__":
    sys.exit(main())
