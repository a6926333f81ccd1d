"""`python -m bench`: measure, print the table and the targets; non-zero if something failed."""

import argparse
import dataclasses
import signal
import sys
import time
from pathlib import Path

from bench.contenders import CONTENDERS, PEERS, Contender
from bench.measure import MEASURES, QUICK, Bench, Measure, Plan
from bench.peers import typescript
from bench.processes import LOAD_CORE, PINNED, pin
from bench.report import as_json, company, conditions, generator, table, targets


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [*(contender.name for contender in CONTENDERS), *PEERS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, for CI: under a minute")
    parser.add_argument(
        "--peers", choices=("ts",), help="ts: the TypeScript servers too, installed from npm"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument(
        "--only",
        default="",
        metavar="NAME,…",
        help=f"servers ({', '.join(names)}) and measures ({', '.join(MEASURES)})",
    )
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    if unknown := set(options.only) - {*names, *MEASURES}:
        parser.error(f"--only does not know {', '.join(sorted(unknown))}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    """How much to measure."""
    plan = QUICK if options.quick else Plan()
    measures: tuple[Measure, ...] = tuple(name for name in MEASURES if name in options.only)
    return dataclasses.replace(
        plan, measures=measures or plan.measures, rounds=options.rounds or plan.rounds
    )


def available(options: argparse.Namespace) -> tuple[dict[Contender, float], list[str]]:
    """The servers to measure, with the time their import took; and why others are skipped."""
    known = [*CONTENDERS, *(typescript() if options.peers == "ts" else ())]
    wanted = [one for one in known if one.name in options.only] or known
    tries = [(one, *one.try_import()) for one in wanted]
    skipped = [f"{one.name}: skipped, {why}" for one, _, why in tries if why is not None]
    return {one: seconds for one, seconds, why in tries if why is None}, skipped


def say(begin: float, line: str) -> None:
    """Tell how far it is, beside the report."""
    print(f"{time.perf_counter() - begin:4.0f} s  {line}", file=sys.stderr)


def main() -> int:
    """Run it; 0 when everything ran and answered right, whatever the speed."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    pin(0, LOAD_CORE)
    begin = time.perf_counter()
    contenders, skipped = available(options)
    facts = conditions()
    print(" · ".join(f"{name} {value}" for name, value in facts.items()))
    if not PINNED:
        print("one core only: the server and the load generator share it")
    print(*skipped, sep="\n", flush=True)
    bench = Bench(plan_of(options), contenders, lambda line: say(begin, line))
    samples = bench.run()
    samples.problems.extend(skipped)
    print(f"\nMedians\n{table(samples, list(contenders))}\n\nTargets\n{targets(samples)}\n")
    notes = (generator(samples), company(samples))
    print(*(note for note in notes if note is not None), sep="\n")
    print(f"{time.perf_counter() - begin:.0f} s")
    if options.json is not None:
        options.json.write_text(as_json(samples, facts))
    print(*(f"PROBLEM {problem}" for problem in samples.problems), sep="\n")
    return 1 if samples.problems else 0


if __name__ == "__main__":
    sys.exit(main())
