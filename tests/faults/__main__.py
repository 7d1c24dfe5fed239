"""Every fault at every request of every scenario: `python -m tests.faults`. Prints a table by kind, and every violation."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict

from tests.promises.scenarios import SCENARIOS

from . import cases
from .kinds import KINDS, Kind


def judge(number: int, kinds: tuple[Kind, ...], dull: bool) -> list[cases.Outcome]:
    """Return the outcomes of one scenario."""
    return [cases.run(case) for case in cases.cases(cases.unique(SCENARIOS)[number], kinds, dull=dull)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--scenario", default="", help="only those whose name holds this text")
    parser.add_argument("--kind", default="", help="only those whose name holds this text")
    parser.add_argument(
        "--dull",
        action="store_true",
        help="also at every further look while something is waited for, not only at the first two and the last",
    )
    options = parser.parse_args()
    kinds = tuple(kind for kind in KINDS if options.kind in str(kind))
    scenarios = cases.unique(SCENARIOS)
    numbers = [at for at, scenario in enumerate(scenarios) if options.scenario in str(scenario)]
    began = time.monotonic()
    outcomes: list[cases.Outcome] = []
    with multiprocessing.Pool(options.processes) as pool:
        for done in pool.imap_unordered(functools.partial(judge, kinds=kinds, dull=options.dull), numbers):
            outcomes += done
            for outcome in done:
                if outcome.violations:
                    print(f"{outcome.case}", *outcome.violations, sep="\n    ", flush=True)
            if sys.stderr.isatty():
                print(f"\r{len(outcomes)} cases", end="", file=sys.stderr)
    bad = [outcome for outcome in outcomes if outcome.violations]
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        table[str(outcome.case.kind)][outcome.first] += 1
        table[str(outcome.case.kind)]["violations"] += bool(outcome.violations)
    print(f"\n{'fault':34} {'cases':>6} {'survived':>9} {'reported':>9} {'killed':>7} {'violations':>11}")
    for kind in kinds:
        row = table[str(kind)]
        total = row["done"] + row["told"] + row["killed"]
        print(f"{kind!s:34} {total:6} {row['done']:9} {row['told']:9} {row['killed']:7} {row['violations']:11}")
    seconds = time.monotonic() - began
    print(f"\nfaults: {len(outcomes)} cases of {len(numbers)} scenarios, {len(bad)} violations, {seconds:.0f} s")
    return 1 if bad or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
