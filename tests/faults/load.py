"""A play over many hosts at once, each of which clones itself from one template by name: `python -m tests.faults.load`.

The real ansible-playbook, HTTPS, and a node with three workers of each daemon, whose storage takes two seconds for each volume and
lets nobody wait for its lock longer than ten. Run twice: the first run makes every guest once, the second changes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from tests.playbooks.conftest import Run, Site
from tests.simulator import Cluster, Durations, RealClock, serve

TEMPLATE = 9000
PLAY = [
    {
        "name": "Guests from one template",
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "tasks": [
            {
                "name": "Clone",
                "keel.proxmox.proxmox_vm_clone": {
                    "source": "debian-13",
                    "name": "{{ inventory_hostname }}",
                    "full": True,
                    "timeout": 3600,
                },
            }
        ],
    }
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.load", description=__doc__)
    parser.add_argument("--hosts", type=int, default=200, help="of the inventory (default 200)")
    parser.add_argument("--forks", type=int, default=20, help="hosts at a time (default 20)")
    parser.add_argument("--speed", type=float, default=8.0, help="of the simulated cluster's time (default 8)")
    parser.add_argument("--allocate", type=float, default=2.0, help="seconds a volume takes, of its time (default 2)")
    parser.add_argument("--request", type=float, default=0.1, help="seconds a request takes, of its time (default 0.1)")
    options = parser.parse_args()
    durations = Durations(request=options.request, allocate=options.allocate)
    cluster = Cluster(clock=RealClock(time.time(), options.speed), durations=durations)
    cluster.add_template(TEMPLATE, "debian-13", disk="local-lvm:2")
    hosts = [f"web{number:03d}" for number in range(1, options.hosts + 1)]
    with serve(cluster) as server, tempfile.TemporaryDirectory(prefix="load-") as directory:
        site = Site(cluster, server, Path(directory))
        (site.directory / "hosts.ini").write_text("\n".join(hosts) + "\n", encoding="utf-8")
        (site.directory / "play.yml").write_text(yaml.safe_dump(PLAY, sort_keys=False), encoding="utf-8")
        command = ["ansible-playbook", "-i", "hosts.ini", "--forks", str(options.forks), "play.yml"]
        runs, seconds = [], []
        for _run in range(2):
            began = time.monotonic()
            runs.append(site.run(command, seconds=3600))
            seconds.append(time.monotonic() - began)
    wrong = [*violations(cluster, hosts, runs[0]), *violations(cluster, hosts, runs[1])]
    changed = [sum(result.changed for result in run.results) for run in runs]
    if changed != [len(hosts), 0]:
        wrong.append(f"changed: {changed[0]} of {len(hosts)} in the first run, {changed[1]} in the second")
    if cluster.unmodelled:
        wrong.append(f"not modelled: {cluster.unmodelled}")
    tell(cluster, hosts, runs, seconds)
    print(*wrong[:20], f"load: {len(wrong)} violations", sep="\n")
    return 1 if wrong else 0


def violations(cluster: Cluster, hosts: list[str], run: Run) -> list[str]:
    """Return what is wrong after a run."""
    wrong = [f"{result.host}: {result.message}" for result in run.results if result.outcome != "ok"]
    if run.code or len(run.results) != len(hosts):
        wrong.append(f"ansible-playbook ended with {run.code} and {len(run.results)} results: {run.stderr[-500:]}")
    made = {vmid: guest for vmid, guest in cluster.guests.items() if vmid != TEMPLATE}
    names = Counter(guest.config.get("name", f"nameless {vmid}") for vmid, guest in made.items())
    wrong += [f"{name} is there {names[name]} times" for name in {*names, *hosts} if names[name] != (name in hosts)]
    wrong += [f"{vmid} is locked ({guest.config['lock']})" for vmid, guest in made.items() if "lock" in guest.config]
    owners = Counter(volume.vmid for volume in cluster.storages.volumes.values())
    wrong += [f"{vmid} has {owners[vmid]} volumes" for vmid in {*made, *owners} if owners[vmid] != 1]
    told = {result.host: result.result["guest"]["vmid"] for result in run.results if result.result.get("guest")}
    wrong += [
        f"{host} was told {vmid}"
        for host, vmid in told.items()
        if vmid not in made or made[vmid].config["name"] != host
    ]
    return wrong


def tell(cluster: Cluster, hosts: list[str], runs: list[Run], seconds: list[float]) -> None:
    """Print the figures."""
    vmids = {result.result["guest"]["vmid"] for result in runs[0].results if result.result.get("guest")}
    failures = sum(result.outcome != "ok" for run in runs for result in run.results)
    clones = [task for task in cluster.tasks.all.values() if task.type == "qmclone"]
    steps = sorted([(task.start, 1) for task in clones] + [(task.end or 0.0, -1) for task in clones])
    at_once = max(itertools.accumulate(step for _when, step in steps), default=0)
    # Texts without what they are about.
    lost = Counter(re.sub(r"\d{2,}", "N", str(task.status)) for task in clones if task.status != "OK")
    statuses = Counter(f"{entry.method} {entry.status}" for entry in cluster.log if entry.status >= 400)
    print(f"{len(hosts)} hosts: {len(cluster.guests) - 1} guests, {len(vmids)} distinct VMIDs, {failures} failures")
    print(f"first run {seconds[0]:.0f} s, second {seconds[1]:.0f} s, {len(cluster.log)} requests")
    print(f"{len(clones)} clone tasks, up to {at_once} at once; {sum(lost.values())} failed and were repeated")
    for text, count in lost.most_common():
        print(f"    {count:4} x {text}")
    print(f"{sum(statuses.values())} requests refused: {dict(statuses)}")
    print(f"second run: changed={sum(result.changed for result in runs[1].results)}")


if __name__ == "__main__":
    sys.exit(main())
