# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ansible-inventory --list` costs: ours, beside the floor and beside Ansible's own Constructable.

The floor is a plugin that adds the same hosts, groups and variables from memory; plain is ours with each expression evaluated for
each guest by Ansible. The runs take turns, and the medians are compared. Seconds are those of the whole command, as a user waits
for them; ratios are those of the processor's time, which a busy machine changes least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.simulator import Cluster, RealClock, Server, serve
from tests.simulator.engine.model import Durations
from tests.simulator.populate import populate

from .world import launching

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LATENCY = 0.005
PLUGIN = {"plugin": "keel.proxmox.proxmox"}
EVERYTHING = ("config", "status", "snapshots", "interfaces", "agent")

# Nine, as inventories have them: each reads few values but one, which is another for every guest.
EXPRESSIONS: dict[str, Any] = {
    "compose": {
        "ansible_user": "'root' if proxmox_type == 'lxc' else 'debian'",
        "fqdn": "proxmox_name ~ '.example.com'",
        "memory_gib": "(proxmox_maxmem or 0) // 1024 ** 3",
        "stage": "'prod' if 'prod' in proxmox_tags else 'test'",
    },
    "groups": {
        "big": "proxmox_maxcpu is not none and proxmox_maxcpu >= 4",
        "web_running": "'web' in proxmox_tags and proxmox_status == 'running'",
    },
    "keyed_groups": [
        {"key": "proxmox_tags", "prefix": "tagged"},
        {"key": "proxmox_node", "prefix": "at", "parent_group": "by_node"},
        {"key": "proxmox_pool | default('none', true)", "prefix": "in"},
    ],
}
# What the clock changes between two runs.
VOLATILE = ("proxmox_uptime", "proxmox_cpu_usage", "proxmox_mem", "proxmox_qmpstatus")


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds that it took, seconds of processor, most memory in MiB, requests made."""

    seconds: float
    cpu: float
    peak: float
    requests: int


@dataclass(frozen=True)
class Row:
    """One line of the table; of several runs the medians. What was not measured is None.

    Attributes:
        guests: how many.
        facts: which facts were asked for.
        expressions: how many constructed ones.
        ours, floor, plain: seconds of the whole command.
        cpu_ours, cpu_floor, cpu_plain: seconds of processor.
        requests: made by one run of ours.
        peak, peak_floor, peak_plain: most memory, MiB.
        same: whether all gave the same output.
    """

    guests: int
    facts: tuple[str, ...]
    expressions: int
    ours: float
    cpu_ours: float
    requests: int
    peak: float
    same: bool
    floor: float | None = None
    cpu_floor: float | None = None
    plain: float | None = None
    cpu_plain: float | None = None
    peak_floor: float = 0.0
    peak_plain: float = 0.0

    @property
    def to_floor(self) -> float | None:
        """Processor time of ours as a multiple of the floor's."""
        return self.cpu_ours / self.cpu_floor if self.cpu_floor else None

    @property
    def faster_than_plain(self) -> float | None:
        """Processor time of plain as a multiple of ours."""
        return self.cpu_plain / self.cpu_ours if self.cpu_plain else None


class Bench:
    """A served cluster of so many guests, and commands run against it."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server, self.directory = server, directory
        self.settings = directory / "ansible.cfg"
        self.settings.touch()

    def run(self, kind: str, source: Path, *, into: Path | None = None) -> tuple[Run, Any]:
        """Run the command and return what it cost and what it printed."""
        listed = self.directory / "listed.json"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PROXMOX_"))},
            **self.server.environment(),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_CONFIG": str(self.settings),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_INVENTORY_PLUGINS": str(HERE / "inventory_plugins"),
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
            "PYTHONPATH": str(ROOT),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, str(HERE / "inventory_run.py"), kind, str(into or "-"), "-i", str(source), "--list"]
        before, spent = len(self.server.cluster.log), self.directory / "spent.json"
        with listed.open("wb") as out:
            subprocess.run([*launching(spent), *command], env=environment, stdout=out, cwd=self.directory, check=True)
        took = json.loads(spent.read_text(encoding="utf-8"))
        cost = Run(took["seconds"], took["cpu"], took["memory"], len(self.server.cluster.log) - before)
        return cost, json.loads(listed.read_bytes())

    def row(
        self, guests: int, facts: Sequence[str], constructed: Mapping[str, Any], kinds: Sequence[str], repeats: int
    ) -> Row:
        """Measure the kinds, which take turns."""
        ours = self.write("ours.proxmox.yml", {**PLUGIN, "facts": list(facts), **constructed})
        sources = {"ours": ours, "plain": ours}
        if "floor" in kinds:
            pickled = self.directory / "floor.pickle"
            self.run("export", ours, into=pickled)
            sources["floor"] = self.write("floor.yml", {"plugin": "bench_floor", "pickle": str(pickled)})
        costs: dict[str, list[Run]] = {kind: [] for kind in kinds}
        printed = {}
        for _turn in range(repeats):
            for kind in kinds:
                cost, listed = self.run(kind, sources[kind])
                costs[kind].append(cost)
                printed[kind] = _steady(listed)

        def median(kind: str, what: Callable[[Run], float]) -> float | None:
            return statistics.median(map(what, costs[kind])) if kind in costs else None

        seconds = {kind: median(kind, lambda run: run.seconds) for kind in ("ours", "floor", "plain")}
        cpu = {f"cpu_{kind}": median(kind, lambda run: run.cpu) for kind in ("ours", "floor", "plain")}
        peaks = {kind: max((run.peak for run in costs.get(kind, ())), default=0.0) for kind in seconds}
        return Row(
            guests=guests,
            facts=tuple(facts),
            expressions=_count(constructed),
            requests=costs["ours"][-1].requests,
            peak=peaks["ours"],
            peak_floor=peaks["floor"],
            peak_plain=peaks["plain"],
            same=all(one == printed["ours"] for one in printed.values()),
            **seconds,
            **cpu,
        )

    def write(self, name: str, options: Mapping[str, Any]) -> Path:
        """Write an inventory file."""
        path = self.directory / name
        path.write_text(yaml.safe_dump(dict(options), sort_keys=False), encoding="utf-8")
        return path


def rows(sizes: Sequence[int] = (1000, 10000), *, with_facts: Sequence[int] = (1000,), repeats: int = 3) -> list[Row]:
    """Measure inventories of these sizes, and of the others with facts.

    Args:
        sizes: numbers of guests, each with and without the constructed expressions.
        with_facts: numbers of guests, each with their configuration and with all facts.
        repeats: how often each command runs.
    """
    found = []
    for guests in sorted({*sizes, *with_facts}):
        cluster = Cluster(clock=RealClock(time.time()), durations=Durations(request=LATENCY))
        populate(cluster, guests, template=0)
        with serve(cluster) as server, tempfile.TemporaryDirectory(prefix="bench-inventory-") as directory:
            bench = Bench(server, Path(directory))
            bench.run("ours", bench.write("warm.proxmox.yml", PLUGIN))
            if guests in sizes:
                found.append(bench.row(guests, (), {}, ("ours", "floor"), repeats))
                found.append(bench.row(guests, (), EXPRESSIONS, ("ours", "floor", "plain"), repeats))
            if guests in with_facts:
                found.append(bench.row(guests, ("config",), {}, ("ours",), repeats))
                found.append(bench.row(guests, EVERYTHING, {}, ("ours",), repeats))
    return found


def _count(constructed: Mapping[str, Any]) -> int:
    return sum(map(len, constructed.values()))


def _steady(listed: dict[str, Any]) -> dict[str, Any]:
    """The output without what the clock changes."""
    for variables in listed["_meta"]["hostvars"].values():
        for name in VOLATILE:
            variables.pop(name, None)
    return listed


def table(measured: Sequence[Row]) -> str:
    """The rows for people."""
    head = (
        "guests",
        "facts",
        "expr.",
        "ours s",
        "floor s",
        "plain s",
        "cpu ours",
        "to floor",
        "plain to ours",
        "requests",
        "MiB",
        "same",
    )
    lines = [head]
    for row in measured:
        facts = "all" if row.facts == EVERYTHING else ",".join(row.facts) or "-"
        figures = (row.ours, row.floor, row.plain, row.cpu_ours, row.to_floor, row.faster_than_plain)
        shown = ["-" if one is None else f"{one:.2f}" for one in figures]
        lines.append(
            (
                str(row.guests),
                facts,
                str(row.expressions),
                *shown,
                str(row.requests),
                f"{row.peak:.0f}",
                "yes" if row.same else "NO",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.inventory", description=__doc__)
    parser.add_argument("--guests", type=int, nargs="*", default=[1000, 10000], help="sizes (default 1000 10000)")
    parser.add_argument("--facts", type=int, nargs="*", default=[1000], help="sizes with facts (default 1000)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(table(rows(options.guests, with_facts=options.facts, repeats=options.repeats)))


if __name__ == "__main__":
    main()
