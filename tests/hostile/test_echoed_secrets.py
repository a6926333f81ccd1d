"""A host answers with what it was sent: the operator's key is in nothing that is shown."""

import base64
import html
import io
import json
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from tests.kit.peers import connect, each_era, served
from tests.tools.raw_servers import RawServer, Start, allowed, batch, raw_servers, reply

from headway import Headway
from headway.cli.log_output.json_format import JsonFormatter
from headway.cli.log_output.line_format import LineFormatter
from headway.cli.log_output.log_config import apply_log_config
from headway.log_lines import every_handler
from headway.testing import run_tool
from headway.tools import build
from headway.tools.batch import BatchTool
from headway.tools.config import load
from headway.tools.redaction import Secrets
from headway.tools.web.hosts import Hosts

pytestmark = pytest.mark.anyio

TOKEN = "s3cr3t/T0ken+w1th=signs"
KEY = f'Bearer {TOKEN} "and more"'
PIECES = ("s3cr3t", "T0ken", "w1th")

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "lower": str.lower,
    "json": json.dumps,
    "json in json": lambda text: json.dumps(json.dumps({"a": text})),
    "escapes": lambda text: "".join(f"\\u{ord(each):04X}" for each in text),
    "percent": lambda text: quote(text, safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "every character": lambda text: "".join(f"%{ord(each):02x}" for each in text),
    "form": quote_plus,
    "html": html.escape,
    "entities": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "slashes": lambda text: text.replace("/", "\\/"),
    "repr": lambda text: repr(text.encode()),
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 inside": lambda text: base64.b64encode(f"Authorization: {text}\r\n".encode()).decode(),
    "base64 shifted": lambda text: base64.b64encode(f"xx{text}\r\n".encode()).decode(),
    "base64 url": lambda text: base64.urlsafe_b64encode(f"x{text}\r\n".encode()).decode(),
}


@pytest.fixture
async def start() -> AsyncGenerator[Start]:
    async with raw_servers() as start:
        yield start


def is_clean(shown: object) -> bool:
    """Whether nothing of the key is in what is shown, as it is or decoded."""
    text = json.dumps(shown, default=str)
    plain = text.lower()
    pieces = [piece.lower() for piece in PIECES]
    encoded = [base64.b64encode(piece.encode()).decode()[:6] for piece in (TOKEN, KEY)]
    return not any(piece in plain for piece in [*pieces, *encoded, TOKEN.encode().hex()])


async def ask(web: RawServer, *items: str, **request: Any) -> Any:
    hosts = {"api.test": allowed(web.port, headers={"Authorization": KEY, "Accept": "text/plain"})}
    return await batch(
        hosts, list(items or "ab"), {"url": f"http://api.test:{web.port}/{{item}}", **request}
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", [KEY, TOKEN], ids=["value", "token"])
async def test_no_part_has_the_key_in_it_however_it_is_written(
    start: Start, form: str, secret: str
) -> None:
    written = FORMS[form](secret)
    bodies = {
        "text": f"you sent: {written}; bye",
        "json": json.dumps({"headers": [{"authorization": written}], "n": 1}),
        "name": json.dumps({written: 1}),
        "long": "x" * 1970 + written + "y" * 5000,
    }
    web = await start(lambda path: reply(body=bodies[path.lstrip("/")].encode()))
    outcome = await ask(web, *bodies)
    assert outcome.result["ok"] == len(bodies)
    assert is_clean([outcome.parts, outcome.result, outcome.logs, outcome.progress])
    for part in outcome.parts:
        assert "***" in json.dumps(part), part
    assert web.header("authorization") == [KEY] * len(bodies), "it is sent all the same"


async def test_errors_have_no_key_in_them(start: Start) -> None:
    location = f"http://{quote(TOKEN, safe='')}.evil.test/?k={quote(KEY)}"
    web = await start(lambda _: reply(302, Location=location))
    outcome = await ask(web)
    assert outcome.result["failed"] == 2
    assert is_clean([outcome.parts, outcome.result, outcome.logs])


async def test_a_key_of_digits_is_hidden_as_a_number_too(start: Start) -> None:
    web = await start(lambda _: reply(body=b'{"key": 83749201, "n": 5}'))
    hosts = {"api.test": allowed(web.port, headers={"X-Key": "83749201"})}
    outcome = await batch(hosts, [1], {"url": f"http://api.test:{web.port}/"})
    assert outcome.parts[0]["body"] == {"key": "***", "n": 5}


async def test_a_login_is_hidden_decoded_too(start: Start) -> None:
    login = base64.b64encode(b"reader:opensesame").decode()
    web = await start(lambda _: reply(body=b'{"user": "reader", "password": "opensesame"}'))
    hosts = {"api.test": allowed(web.port, headers={"Authorization": f"Basic {login}"})}
    outcome = await batch(hosts, [1], {"url": f"http://api.test:{web.port}/"})
    assert outcome.parts[0]["body"] == {"user": "reader", "password": "***"}


async def test_what_is_no_secret_is_shown(start: Start) -> None:
    web = await start(lambda _: reply(body=b'{"accept": "application/json", "v": "1", "t": true}'))
    hosts = {"api.test": allowed(web.port, headers={"Accept": "application/json", "X-V": "1"})}
    outcome = await batch(hosts, [1], {"url": f"http://api.test:{web.port}/"})
    assert outcome.parts[0]["body"] == {"accept": "application/json", "v": "1", "t": True}


async def test_a_failure_that_nobody_expected_is_logged_without_the_key(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async def resolver(name: str, port: int) -> Any:
        raise RuntimeError(f"looking up {name} with {KEY}")

    hosts = {"api.test": allowed(80, headers={"Authorization": KEY})}
    outcome = await batch(hosts, [1], {"url": "http://api.test/{item}"}, resolver=resolver)
    assert outcome.result["failed"] == 1
    assert "looking up api.test with ***" in caplog.text
    assert is_clean(caplog.text)


CONFIG = """
roots = ["."]
[sources.web]
kind = "api"
url = "http://127.0.0.1:{port}/find?q={{query}}&key=${{URL_KEY}}"
private = true
hits = ""
title = "t"
link = "l"
snippet = "s"
headers = {{ Authorization = "Bearer ${{WEB_KEY}}" }}
[sources.wiki]
kind = "database"
url = "postgresql+psycopg://reader:{database_key}@127.0.0.1:1/wiki"
timeout = "2s"
tables = [{{ name = "page", columns = ["title"], title = "title", link = "{{title}}" }}]
[hosts."127.0.0.1"]
ports = [{port}]
private = true
headers = {{ X-Key = "${{WEB_KEY}}" }}
[cache]
"""


@each_era
async def test_no_answer_of_a_configured_server_has_a_key_in_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    keys = {"URL_KEY": "url/key 4711", "WEB_KEY": "web-key-0815", "DATABASE": "database-key"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    echoes = [*keys.values(), quote("url/key 4711"), base64.b64encode(b"web-key-0815").decode()]
    hits = [{"t": each, "l": f"https://x.test/{each}", "s": f"…{each}…"} for each in echoes]
    web = await start(lambda _: reply(body=json.dumps(hits).encode()))
    text = CONFIG.format(port=web.port, database_key="database-key")
    (tmp_path / "headway.toml").write_text(text)
    config = load(tmp_path / "headway.toml")
    server = build([tmp_path], tmp_path / "data", config=config)
    async with served(server) as wire:
        client = await connect(wire, era)
        found = await (await client.call("search", {"query": "x"})).outcome()
        request = {"url": f"http://127.0.0.1:{web.port}/{{item}}"}
        arguments = {"items": ["a"], "request": request}
        answer = await client.call("process_batch", arguments)
        sent = await answer.rest() if answer.is_stream else [await answer.json()]
    shown = json.dumps([found, sent])
    for value in (*keys.values(), "web-key", "0815", "4711", quote("url/key 4711")):
        assert value not in shown, value
        assert value not in caplog.text, value
    assert "***" in shown


LOG_CONFIG = """
[handlers.file]
class = "logging.FileHandler"
filename = "{place}"
[loggers."tests.hostile.deep.inside"]
handlers = ["file"]
propagate = false
"""


class Unshowable:
    """An argument of a log line whose own code fails."""

    def __str__(self) -> str:
        raise RuntimeError(KEY)


def test_nothing_that_is_logged_has_a_key_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    secrets = Secrets.of_headers({"Authorization": KEY})
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("tests.hostile.secrets")
    logger.addHandler(handler)
    try:
        secrets.hide_in_logs([handler])
        logger.warning("sent %r and %s", {"Authorization": KEY}, TOKEN)
        try:
            raise ValueError(KEY)
        except ValueError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    shown = capsys.readouterr().err
    assert is_clean(shown)
    assert shown.count("***") >= 3


@pytest.mark.parametrize("formatter", [JsonFormatter(), LineFormatter("%(message)s %(extra)s")])
def test_no_field_of_a_record_has_a_key_in_it(formatter: logging.Formatter) -> None:
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    handler.setFormatter(formatter)
    Secrets.of_headers({"Authorization": KEY}).hide_in_logs([handler])
    facts = {"error": f"sent {KEY}", "seconds": 1, 7: (TOKEN,)}
    record = logging.makeLogRecord({"msg": "a call", "headway_call": facts, "extra": KEY})
    try:
        raise ValueError(f"with {TOKEN}\nheadway: forged")
    except ValueError:
        record.exc_info = sys.exc_info()
    record.stack_info = f"Stack:\n  send({KEY!r})"
    handler.handle(record)
    assert is_clean(shown.getvalue())
    assert "***" in shown.getvalue()
    if isinstance(formatter, JsonFormatter):
        line = json.loads(shown.getvalue())
        assert (line["call"]["error"], line["stack"]) == ("sent ***", "Stack:\n  send('***')")
        assert "ValueError: with ***" in line["exception"]
    else:  # what a tool raises is still no line of its own
        assert "\n    headway: forged" in shown.getvalue()


@pytest.mark.parametrize("arguments", [("too", "many"), (Unshowable(),)])
def test_a_line_that_cannot_be_made_breaks_nothing_and_shows_no_key(
    arguments: tuple[object, ...],
) -> None:
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    Secrets.of_headers({"Authorization": KEY}).hide_in_logs([handler])
    handler.handle(logging.makeLogRecord({"msg": f"{KEY} %s", "args": arguments}))
    assert shown.getvalue() == "*** %s (with arguments that do not fit)\n"


def test_handlers_that_a_file_puts_on_any_logger_are_masked(tmp_path: Path) -> None:
    config, place = tmp_path / "log.toml", tmp_path / "out.log"
    config.write_text(LOG_CONFIG.format(place=place))
    logger = logging.getLogger("tests.hostile.deep.inside")
    try:
        apply_log_config(config)
        Secrets.of_headers({"Authorization": KEY}).hide_in_logs(every_handler())
        logger.warning("sent %s", KEY)
    finally:
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
    assert place.read_text() == "sent ***\n"


async def test_one_key_does_not_show_in_answers_of_another_host(start: Start) -> None:
    web = await start(lambda _: reply(body=json.dumps({"seen": KEY}).encode()))
    hosts = Hosts({
        "127.0.0.1": allowed(web.port), "other.test": allowed(1, headers={"Authorization": KEY}),
    })  # fmt: skip
    mcp = Headway("s")
    mcp.add_tool(BatchTool(hosts).process_batch)
    request = {"url": f"http://127.0.0.1:{web.port}/"}
    outcome = await run_tool(mcp, "process_batch", {"items": [1], "request": request})
    assert is_clean(outcome.parts)


def test_a_long_key_is_known_by_its_beginning_and_costs_little() -> None:
    token = "".join(f"{number:x}" for number in range(2000))
    secrets = Secrets.of_headers({"Authorization": f"Bearer {token}"})
    assert secrets.mask(f"a {token} b") == "a *** b"
    assert token[100:200] not in secrets.mask(base64.b64encode(token.encode()).decode())
