# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a simulated cluster and print how to reach it: `python -m tests.simulator --nodes 3 --guests 10`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import threading
import time
from pathlib import Path

from .engine.clock import RealClock
from .engine.cluster import Cluster
from .engine.model import Durations
from .populate import populate
from .server import serve


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes (default 3)")
    parser.add_argument("--guests", type=int, default=0, help="how many guests besides the template (default none)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8006, help="0 for any (default 8006)")
    parser.add_argument("--latency", type=float, default=5.0, help="milliseconds a request takes (default 5)")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than real time (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--template", type=int, default=9000, help="VMID of a template with a cloud-init drive; 0 for none"
    )
    parser.add_argument("--ready-file", type=Path, help="write the exports here when it listens")
    options = parser.parse_args()
    durations = Durations(request=options.latency / 1000 * options.speed)
    cluster = Cluster(
        nodes=tuple(f"pve{number}" for number in range(1, options.nodes + 1)),
        seed=options.seed,
        clock=RealClock(time.time(), options.speed),
        durations=durations,
    )
    populate(cluster, options.guests, template=options.template)
    server = serve(cluster, options.port, host=options.host)
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in server.environment().items())
    print(f"# {server.url}  certificate {server.fingerprint}\n{lines}", end="", flush=True)
    if options.ready_file:
        part = options.ready_file.with_suffix(".part")
        part.write_text(lines, encoding="utf-8")
        os.replace(part, options.ready_file)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_rest: done.set())
    done.wait()
    server.stop()


if __name__ == "__main__":
    main()
