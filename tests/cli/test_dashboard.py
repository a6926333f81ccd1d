"""`headway dashboard`: its pages, who may see them, and what its buttons do."""

import asyncio
import base64
import hashlib
import re
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from tests.cli.nap import call_tool
from tests.cli.test_retry import Site
from tests.field.test_chromium import CHROMIUM
from tests.kit.program import Programs, programs_in
from tests.kit.waits import PATIENCE, within

from headway.cli.dashboard.dashboard_app import Dashboard
from headway.cli.dashboard.dashboard_pages import (
    PART_HEADER,
    POLICY,
    RunPage,
    render_error,
    render_page,
    render_run,
)
from headway.cli.journal_access.user_journals import OpenJournals
from headway.cli.server.listener import listening

FAILED = "/?failed=1"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


@pytest.fixture
def site(programs: Programs, tmp_path: Path) -> Site:
    return Site(programs, tmp_path)


@pytest.fixture
def address(site: Site) -> str:
    shown = site.programs.start("dashboard", *site.journal).wait_for("Ctrl+C")
    return re.search(r"http://\S+", shown)[0]  # type: ignore[index]


@pytest.fixture
def browser(address: str) -> Iterator[httpx2.Client]:
    """What a browser does: it follows, keeps cookies, and says where a form is from."""
    origin = address.partition("/?")[0]
    with httpx2.Client(base_url=origin, follow_redirects=True, timeout=PATIENCE) as client:
        first = client.get(address)
        assert (first.status_code, str(first.url)) == (200, f"{origin}/")
        client.headers["Origin"] = origin
        yield client


def test_calls_are_listed_and_a_failed_one_is_done_again(
    site: Site, browser: httpx2.Client
) -> None:
    assert "No call goes on" in browser.get("/").text
    call_tool(site.url, "fetch", place=site.place)
    listed = browser.get(FAILED).text
    assert "the shop is closed" in listed
    [run] = re.findall(r'href="(/runs/[^"]+)"', listed)
    page = browser.get(run).text
    assert "Do it again" in page
    assert "the shop is closed" in page
    Path(site.place).touch()
    again = browser.post(f"{run}/retry")
    assert again.url.path not in (run, f"{run}/retry")
    site.programs.run("watch", again.url.path.removeprefix("/runs/"), *site.journal)
    assert f"fetched {site.place}" in browser.get(again.url.path).text


def test_a_call_that_goes_on_shows_its_progress_and_is_stopped(
    site: Site, browser: httpx2.Client
) -> None:
    Path(site.place).touch()
    call_tool(site.url, "hang", place=site.place)
    Path(site.place).unlink()
    run = site.newest("hang")["run"]
    hanging = browser.post(f"/runs/{run}/retry").url.path
    assert hanging in browser.get("/").text
    while "hanging" not in (row := browser.get("/").text):
        pass
    assert '<progress max="2" value="1"></progress>1/2 hanging' in row
    part = browser.get("/", headers={"X-Dashboard-Part": "main"}).text
    assert part.startswith("<table>")
    assert browser.post(f"{hanging}/cancel").url.path == hanging
    site.programs.run("watch", hanging.removeprefix("/runs/"), *site.journal)
    page = browser.get(hanging).text
    assert "cancelled by the operator" in page
    assert "Stop it" not in page


def test_what_cannot_be_done_is_said_on_the_page(site: Site, browser: httpx2.Client) -> None:
    call_tool(site.url, "forgotten")
    run = site.newest("forgotten")["run"]
    assert "Do it again" not in browser.get(f"/runs/{run}").text
    refused = browser.post(f"/runs/{run}/retry")
    assert (refused.status_code, "are not in the journal" in refused.text) == (409, True)
    gone = browser.get("/runs/nothing")
    assert (gone.status_code, "no such run" in gone.text) == (409, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Cookie": "headway-dashboard-{port}=guess"}, 403),
        ({"Host": "localhost:{port}"}, 421),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_nobody_else_is_let_in(address: str, headers: dict[str, str], status: int) -> None:
    origin, _, key = address.partition("/?key=")
    port = origin.rpartition(":")[2]
    said = {name: value.format(port=port) for name, value in headers.items()}
    cookies = {f"headway-dashboard-{port}": key} if status == 421 or "Origin" in said else {}
    with httpx2.Client(base_url=origin, cookies=cookies, timeout=PATIENCE) as client:
        for answer in (
            client.get("/", headers=said),
            client.get("/runs/x", headers=said),
            client.post("/runs/x/cancel", headers=said),
            client.post("/runs/x/retry", headers=said),
            client.get("/?key=guess", headers=said),
        ):
            assert answer.status_code == status
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert "set-cookie" not in answer.headers


def test_the_key_is_kept_where_no_script_and_no_other_site_reads_it(address: str) -> None:
    first = httpx2.get(address, timeout=PATIENCE)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)")
@pytest.mark.anyio
async def test_a_browser_keeps_the_list_up_to_date(tmp_path: Path) -> None:
    refreshed = asyncio.Event()
    async with OpenJournals(f"sqlite:///{tmp_path / 'j.db'}") as journals:
        with listening("127.0.0.1", 0) as listener:
            pages = Dashboard(journals, listener.port)

            async def watched(scope: Any, receive: Any, send: Any) -> None:
                if PART_HEADER.encode() in dict(scope["headers"]):
                    refreshed.set()
                await pages.app(scope, receive, send)

            (tmp_path / "j.db").touch()
            config = uvicorn.Config(watched, log_level="warning", lifespan="off")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=listener.sockets))
            browser = await asyncio.create_subprocess_exec(
                str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0",
                f"--user-data-dir={tmp_path / 'profile'}", pages.address,
                stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
            )  # fmt: skip
            try:
                await within(refreshed.wait())
            finally:
                browser.kill()
                await browser.wait()
                server.should_exit = True
                await within(serving)


def test_the_policy_allows_the_page_its_own_script_and_style() -> None:
    shown = render_page("calls", "")
    for element in ("script", "style"):
        [text] = re.findall(f"<{element}>(.*?)</{element}>", shown, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in POLICY


def test_whatever_was_said_is_only_text() -> None:
    evil = "<script>alert(1)</script>\x1b[2J\"'"
    page = RunPage("ref", "run", True, [(evil, evil)], [evil], [evil], "Error", evil, True)
    shown = render_page(evil, render_run(page) + render_error(evil))
    assert "<script>alert" not in shown
    assert shown.count("<script>") == 1
