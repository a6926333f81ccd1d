"""What the site is made of: pages that README leads to, at their places, and a menu of them."""

import tomllib
from pathlib import Path

import pytest
from scripts import docs_site

ROOT = Path(__file__).parents[2]


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(docs_site, "OUT", tmp_path)
    monkeypatch.setattr(docs_site, "PAGES", tmp_path / "pages")
    monkeypatch.setattr(docs_site, "SITE", tmp_path / "site")
    docs_site.stage()
    return tmp_path


def test_each_page_of_the_documentation_is_on_it_at_its_place(staged: Path) -> None:
    pages = sorted(page.relative_to(ROOT) for page in (ROOT / "docs").rglob("*.md"))
    there = [page for page in pages if (staged / "pages" / page).exists()]
    assert there == pages
    assert (staged / "pages" / "README.md").read_text() == (ROOT / "README.md").read_text()


def test_what_pages_link_to_is_there_as_well(staged: Path) -> None:
    assert (staged / "pages" / "deploy" / "nginx.conf").exists()
    assert (staged / "pages" / "examples" / "files.py").exists()


def test_the_menu_has_the_kinds_of_the_index_and_their_pages(staged: Path) -> None:
    project = tomllib.loads((staged / "zensical.toml").read_text())["project"]
    sections = {name: what for one in project["nav"] for name, what in one.items()}
    assert list(sections)[2:] == [
        "Learn: the tutorial",
        "Get something done: how-to guides",
        "Look something up: reference",
        "Understand: explanation",
    ]
    paths = [path for what in sections.values() for path in paths_in(what)]
    assert len(paths) > 30
    assert all((staged / "pages" / path).is_file() for path in paths)
    assert "docs/reference/settings.md" in paths


def paths_in(what: object) -> list[str]:
    if isinstance(what, list):
        return [path for one in what for value in one.values() for path in paths_in(value)]
    return [str(what)]


def test_a_page_that_loads_something_from_elsewhere_is_found(staged: Path) -> None:
    (staged / "site").mkdir()
    page = staged / "site" / "index.html"
    page.write_text('<a href="https://example.org/">there</a><script src="app.js"></script>')
    assert docs_site.asked_of_others() == []
    page.write_text('<link rel="stylesheet" href="https://fonts.example.org/css">')
    assert docs_site.asked_of_others() == ["https://fonts.example.org/css"]
