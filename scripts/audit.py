"""Ask the registry's advisories about each locked dependency.

    make audit

Fails where one is known to be vulnerable. What could not be asked about is counted and said: where
no service can be reached nothing was audited, and that is no failure.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
UV = CHECKOUT / ".tools" / ".venv" / "bin" / "uv"
PATIENCE = 300.0
"""Seconds that all advisories together get."""

LOCKED = CHECKOUT / "out" / "locked.txt"


def ask_advisories() -> dict[str, Any] | None:
    """Return what is known of the locked dependencies; None where nobody answers in time."""
    command = [
        *(UV, "tool", "run", "pip-audit", "--requirement", LOCKED, "--require-hashes"),
        *("--disable-pip", "--format", "json", "--progress-spinner", "off"),
    ]
    try:
        said = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, timeout=PATIENCE
        ).stdout
    except subprocess.TimeoutExpired:
        return None
    return json.loads(said) if said.strip() else None


def judge(report: dict[str, Any]) -> int:
    """Print what is known of each dependency that matters; 1 where one is vulnerable."""
    rows: list[dict[str, Any]] = report["dependencies"]
    skipped = [row for row in rows if "skip_reason" in row]
    bad = [row for row in rows if row.get("vulns")]
    for row in bad:
        for each in row["vulns"]:
            mended = ", ".join(each["fix_versions"]) or "nothing yet"
            print(f"{row['name']} {row['version']}: {each['id']}, mended in {mended}")
    print(
        f"{len(rows) - len(skipped)} of {len(rows)} dependencies were audited, {len(bad)} are bad"
    )
    if skipped:
        print(f"not audited: {len(skipped)}, of which the first: {skipped[0]['skip_reason']}")
    return 1 if bad else 0


def main() -> int:
    """Return 0 when no dependency is known to be vulnerable."""
    LOCKED.parent.mkdir(exist_ok=True)
    export = [UV, "export", "--frozen", "--quiet", "--all-extras", "--no-dev", "--no-emit-project"]
    subprocess.run([*export, "--output-file", LOCKED], cwd=CHECKOUT, check=True)
    report = ask_advisories()
    if report is None:
        print("nothing was audited: no advisories can be reached")
        return 0
    return judge(report)


if __name__ == "__main__":
    sys.exit(main())
