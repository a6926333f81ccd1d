"""`python -m tests.fuzz`: send a server thousands of wrong requests.

Ends with 1 when an input broke something; it is printed, and kept in `tests/fuzz/corpus`, where
`make test` tries it again from then on.
"""

import argparse
import random
import sys
import time
from pathlib import Path

from tests.fuzz.fuzzer import Fuzzer, repeat
from tests.fuzz.wire import Broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000, help="how many (default: 5000)")
    parser.add_argument("--seed", type=int, help="the seed of an earlier run")
    parser.add_argument("--repeat", type=Path, help="send one input that was kept")
    options = parser.parse_args()
    if options.repeat is not None:
        return _repeat(options.repeat)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"{options.inputs} inputs, SEED={seed}", flush=True)
    began = time.monotonic()
    fuzzer = Fuzzer(seed, lambda line: print(line, flush=True))
    findings = fuzzer.run(options.inputs)
    print(f"{fuzzer.sent} inputs in {time.monotonic() - began:.0f} s, SEED={seed}")
    print(f"{len(findings)} findings" if findings else "nothing broke")
    return 1 if findings else 0


def _repeat(path: Path) -> int:
    try:
        repeat(path.read_bytes(), is_line=path.suffix == ".line")
    except Broken as error:
        print(error)
        return 1
    print("nothing broke")
    return 0


if __name__ == "__main__":
    sys.exit(main())
