"""Real processes that clone at once over HTTPS, names given and VMIDs not: `python -m tests.faults.processes`."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from typing import Any

from tests import modules
from tests.simulator import Cluster, Durations, RealClock, serve


def clone_some(number: int, count: int, auth: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of one process."""
    return [
        modules.run("proxmox_vm_clone", {**auth, "source": "9000", "name": f"p{number}-{each}", "timeout": 1800})
        for each in range(count)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.processes", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--clones", type=int, default=25, help="by each process (default 25)")
    options = parser.parse_args()
    cluster = Cluster(clock=RealClock(time.time()), durations=Durations(request=0.002))
    cluster.add_template(9000, "debian", disk="local-lvm:2")
    wanted = options.processes * options.clones
    # Forked before the server's threads are there.
    with multiprocessing.Pool(options.processes) as pool, serve(cluster) as server:
        auth = {
            "api_host": [server.host],
            "api_port": server.port,
            "api_user": server.user,
            "api_token_id": server.token_id,
            "api_token_secret": server.token_secret,
            "ca_path": server.ca_path,
        }
        began = time.monotonic()
        jobs = [pool.apply_async(clone_some, (number, options.clones, auth)) for number in range(options.processes)]
        results = [result for job in jobs for result in job.get(1800)]
        seconds = time.monotonic() - began
    failed = [result["msg"] for result in results if result["failed"]]
    vmids = {result["guest"]["vmid"] for result in results if not result["failed"]}
    made = {str(guest.config.get("name")) for guest in cluster.guests.values()} - {"debian"}
    lost = sum(entry.status >= 400 for entry in cluster.log.writes())
    for text in failed[:10]:
        print(text)
    tasks = sum(":qmclone:" in upid for upid in cluster.tasks.all)
    print(
        f"processes: {options.processes} x {options.clones} clones: {len(cluster.guests) - 1} guests, {len(vmids)} distinct VMIDs, "
        f"{len(made)} names, {len(failed)} failures; {tasks - wanted} clone tasks and {lost} requests lost a race; {seconds:.0f} s"
    )
    return 0 if len(vmids) == len(made) == len(cluster.guests) - 1 == wanted and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
