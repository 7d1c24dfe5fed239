"""Measure, and write the page: `python -m tests.bench [--quick] [--only TEXT]`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from . import cases, rival
from .report import BARE, OURS, RIVAL, Results, Section, as_json, figures_table, from_json, page, plot, targets_table
from .world import BIN, CACHE, ROOT, Failed

CASES: dict[str, Callable[[cases.Effort], Section]] = {
    "no-change": cases.no_change,
    "one-guest": cases.one_guest,
    "waiting": cases.waiting,
    "snapshots": cases.snapshots,
    "fleet": cases.fleet,
    "inventory": cases.inventory,
    "inventory-floor": cases.inventory_floor,
    "in-worker": cases.in_worker,
}
KEPT = CACHE / "bench" / "results.json"
INTRODUCTION = """
What a task costs beside the server's own time, and how that compares. The same work is done by this collection, by the
newest release of `community.proxmox`, and by a script that sends the requests and nothing else, on the simulated cluster
of this repository, over HTTPS on one machine. All are run by the same Python with the same ansible-core, in turns
(A B C A B C), so that a busy moment hits everybody.

The simulator is this repository's own. It does not know who asks, answers as a Proxmox VE server does, and takes no more
time than it is told to, so what is shown is what the collections add; on a real server its own work comes on top, for all
alike. Ratios are what to look at: the times are this machine's.

Not everything is alike. `community.proxmox` reports less and compares less, it knows a fresh guest by VMID only (so VMIDs
are used), and it has no task for several guests. It looks at running tasks less often, which spares the server requests
and costs the time that is shown.

`make bench` measures all of it again and writes this page.
"""


def processor() -> str:
    """Return what the machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def about(seconds: float, options: argparse.Namespace) -> dict[str, str]:
    """Return where, when and with what this was measured."""
    script = "from importlib.metadata import version; print(*map(version, ('ansible-core', 'requests', 'proxmoxer')))"
    found = subprocess.run([BIN / "python", "-c", script], check=True, capture_output=True, text=True).stdout.split()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "keel.proxmox": commit.stdout.strip() or "not in git",
        "community.proxmox": rival.version(),
        "ansible-core, requests, proxmoxer": ", ".join(found),
        "Python": platform.python_version(),
        "machine": f"{os.cpu_count()} processors, {processor()}, {platform.system()}",
        "load before": options.load,
        "took": f"{seconds / 60:.0f} minutes" + (", quick" if options.quick else ""),
    }


def bars(results: Results) -> list[tuple[str, dict[str, float]]]:
    """Return what the plot shows: milliseconds for one item where nothing is to do."""
    found = []
    for section in results.sections:
        for line in section.lines:
            sides = {
                side: line.figures[side].seconds * 1000 / line.each
                for side in (OURS, RIVAL, BARE)
                if side in line.figures
            }
            if RIVAL in sides and OURS in sides:
                found.append((line.name, sides))
    return found


def write(results: Results, directory: Path) -> None:
    """Write the page and its picture."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.joinpath("performance.md").write_text(page(results, INTRODUCTION), encoding="utf-8")
    directory.joinpath("performance.svg").write_text(plot(bars(results)), encoding="utf-8")
    print(f"\nwritten: {directory / 'performance.md'}")


def measured(name: str, case: Callable[[cases.Effort], Section], effort: cases.Effort) -> Section:
    """Return a section; one that could not be measured says so, and the others are measured all the same."""
    began = time.monotonic()
    print(f"\n== {name}", flush=True)
    try:
        section = case(effort)
    except (Failed, subprocess.SubprocessError, OSError, LookupError, ValueError) as error:
        traceback.print_exc()
        section = Section(name, "", trouble=[str(error).partition("\n")[0][:300]])
    if section.lines:
        print(figures_table(section))
    print(*section.trouble, f"({time.monotonic() - began:.0f} s)", sep="\n", flush=True)
    return section


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything; no page unless --to says where")
    parser.add_argument(
        "--only", default="", help="only cases whose name holds this text; no page unless --to says where"
    )
    parser.add_argument("--page", action="store_true", help="write the page of the last full run again")
    parser.add_argument("--to", type=Path, help="directory of the page (default docs)")
    options = parser.parse_args()
    if options.page:
        write(from_json(json.loads(KEPT.read_text(encoding="utf-8"))), options.to or ROOT / "docs")
        return 0
    if not rival.there():
        print("bench: run `make bench`, which installs what is compared", file=sys.stderr)
        return 2
    options.load = f"{os.getloadavg()[0]:.1f}"
    began = time.monotonic()
    chosen = {name: case for name, case in CASES.items() if options.only in name}
    sections = [measured(name, case, cases.Effort(options.quick)) for name, case in chosen.items()]
    results = Results(about(time.monotonic() - began, options), sections)
    full = not options.quick and not options.only
    if full:
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_text(json.dumps(as_json(results), indent=1), encoding="utf-8")
    if full or options.to:
        write(results, options.to or ROOT / "docs")
    targets = [target for section in sections for target in section.targets]
    met = sum(target.met for target in targets)
    print(f"\n{targets_table(targets)}\n\nbench: {met} of {len(targets)} targets met, {time.monotonic() - began:.0f} s")
    return 0 if sections and all(section.lines for section in sections) else 1


if __name__ == "__main__":
    sys.exit(main())
