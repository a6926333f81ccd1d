"""Links between the pages: each leads to a file that is there, and to a heading that it has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "tests/**/*.md", "deploy/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return what can stand behind `#`: the headings as repository hosts name them."""
    text = CODE.sub("", page.read_text())
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", each) for each in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text())):
        name, _, anchor = link.partition("#")
        if ":" in name:
            continue  # elsewhere
        target = page if not name else (page.parent / name).resolve()
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name} links to {link}, a heading that is not"


def test_the_index_names_each_page_once_in_its_lists_by_kind() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    by_kind = index.partition("## By what you want")[2]
    linked = [(ROOT / "docs" / link).resolve() for link in LINK.findall(by_kind)]
    docs = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
    of_a_folder = {"decisions", "upstream"}
    wanted = {
        page for page in docs if page.name == "README.md" or page.parent.name not in of_a_folder
    } - {ROOT / "docs" / "README.md"}
    assert wanted - set(linked) == set()
    assert len(linked) == len(set(linked))
