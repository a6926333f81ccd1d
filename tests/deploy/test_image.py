"""The steps of the Dockerfile, done here: what it installs runs as nobody, and writes nothing.

There is no container engine in this. The build stage's own commands are executed with their own
environment in another place, and the entry point is started as the image's user, without
capabilities, in a mount namespace whose root is read-only.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.deploy.proxies import CHECKOUT, DEPLOY
from tests.deploy.tools import needs

from headway.testing.server_process import ServerProcess

USER = 10001
INSIDE = """
mount -t tmpfs -o mode=1777 tmpfs "$DATA"
mount -o remount,bind,ro /
cd "$APP"
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --inh-caps=-all \
  --bounding-set=-all "$@"
""".replace("{user}", str(USER))

LINES = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text()).splitlines()
STAGES = [place for place, line in enumerate(LINES) if line.startswith("FROM ")]
BUILD, FINAL = LINES[STAGES[0] : STAGES[1]], LINES[STAGES[1] :]


def environment(lines: list[str]) -> dict[str, str]:
    """What ENV says in a stage."""
    words = [word for line in lines if line.startswith("ENV ") for word in shlex.split(line[4:])]
    return dict(word.split("=", 1) for word in words)


def array(instruction: str) -> list[str]:
    """The words of an instruction of the final stage that is a JSON array."""
    (line,) = [line for line in FINAL if instruction in line]
    return json.loads(line[line.index("[") :])


def python() -> str | None:
    """A Python that everybody may execute: the one of the tests may be root's own."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    is_good = found and not subprocess.run([found, "-c", check], check=False).returncode
    return found if is_good else None


@pytest.fixture(scope="module")
def image() -> Generator[Path]:
    """A place with what the build stage makes, the tree of it as the image has it."""
    if os.geteuid() != 0:
        pytest.skip("only root can change its user and its view of the disk")
    needs(shutil.which("setpriv") and shutil.which("unshare"), "util-linux")
    needs(python(), "a system-wide Python 3.11 or newer")
    place = Path(tempfile.mkdtemp(prefix="headway-image-", dir="/var/tmp"))
    try:
        place.chmod(0o755)
        for name in ("src", "app", "data"):
            (place / name).mkdir()
        _build(place)
        yield place
    finally:
        shutil.rmtree(place)


def _build(place: Path) -> None:
    own = environment(BUILD)
    own["UV_PROJECT_ENVIRONMENT"] = str(place) + own["UV_PROJECT_ENVIRONMENT"]
    uv = CHECKOUT / ".tools" / ".venv" / "bin"
    env = {**os.environ, **own, "UV_PYTHON": str(python()), "PATH": f"{uv}:{os.environ['PATH']}"}
    env.pop("VIRTUAL_ENV", None)
    for line in BUILD:
        if line.startswith("COPY ") and "--from" not in line:
            *names, target = line.split()[1:]
            for name in names:
                _copy(CHECKOUT / name, place / "src" / target / ("" if target == "./" else "."))
        elif line.startswith("RUN "):
            done = subprocess.run(
                ["sh", "-c", line[4:]], cwd=place / "src",
                env=env, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def contained(image: Path, command: list[str]) -> list[str]:
    """A command as it runs in the image."""
    env = environment(FINAL)
    bin_ = f"{image}{env['PATH'].partition(':')[0]}"
    values = {**env, "PATH": f"{bin_}:/usr/bin:/bin", "XDG_DATA_HOME": str(image / "data")}
    values |= {"HEADWAY_HOST": "127.0.0.1", "HEADWAY_PORT": "{port}"}
    words = [f"{name}={text}" for name, text in values.items()]
    space = ["unshare", "--mount", "sh", "-ceu", INSIDE, "sh", "env", "-i", *words, *command]
    return ["env", f"DATA={image / 'data'}", f"APP={image / 'app'}", *space]


NAMES = """
from importlib.metadata import distributions
for one in distributions():
    print(f"{one.name.lower()}=={one.version}")
"""

SERVER = """
import os
from pathlib import Path
from mcp.server import MCPServer
import headway

mcp = MCPServer("image")
assert os.getuid() == %d and os.getpid() == os.getpgid(0)
assert "/opt/headway/" in headway.__file__, headway.__file__
for place in (Path(headway.__file__), Path("server.py"), Path("/etc/new")):
    try:
        place.open("a").close()
    except OSError:
        continue
    raise AssertionError(f"{place} can be written")
""".replace("%d", str(USER))


async def code_of(words: list[str]) -> int:
    """How a command ends."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*words, stdout=quiet, stderr=quiet)
    async with asyncio.timeout(60):
        return await process.wait()


@pytest.mark.anyio
async def test_what_the_dockerfile_builds_runs_read_only_as_nobody_and_stops_in_order(
    image: Path,
) -> None:
    (image / "app" / "server.py").write_text(SERVER)
    command = contained(image, [*array("ENTRYPOINT"), "run", "server.py:mcp"])
    async with ServerProcess(command, patience=60) as server:
        check = contained(image, array("HEALTHCHECK"))
        words = [word.replace("{port}", str(server.port)) for word in check]
        assert await code_of(words) == 0
        assert await server.terminate() == 0
        assert "finishing what runs" in server.stderr
        assert await code_of(words) != 0


def test_the_image_has_what_is_locked_and_nothing_for_development(image: Path) -> None:
    interpreter = f"{image}/opt/headway/bin/python"
    command = [interpreter, "-c", NAMES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = done.stdout.split()
    lock = (CHECKOUT / "uv.lock").read_text()
    locked = dict(re.findall(r'^name = "([^"]+)"\nversion = "([^"]+)"', lock, re.MULTILINE))
    names = {one.partition("==")[0].replace("_", "-").replace(".", "-") for one in listed}
    assert "headway" in names
    assert not names & {"pytest", "ruff", "pyright", "hypothesis", "fastapi", "pip"}
    for one in listed:
        name, _, version = one.partition("==")
        assert locked[name.replace("_", "-").replace(".", "-")] == version


if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)
