# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured: the round-robin databases that pvestatd fills.

Sources: pve-cluster, PVE/RRD.pm (create_rrd_data: resolutions, and buckets without data that hold a time only), pmxcfs status.c
(rrd_def_*: the columns); pve-manager, PVE/API2/Nodes.pm; qemu-server and pve-container, rrddata.

Nobody keeps what the simulated guests did, so the past is made up, the same at each look: since the node was started, around what
is measured now. Before that nothing is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import resources
from .http import ApiError, die

if TYPE_CHECKING:
    from .cluster import Call

# Seconds of a bucket, and how many there are.
FRAMES = {
    "hour": (60, 60),
    "day": (60, 1440),
    "week": (1800, 336),
    "month": (1800, 1440),
    "year": (21600, 1440),
    "decade": (604800, 570),
}
_PRESSURE = ("cpusome", "iosome", "iofull", "memorysome", "memoryfull")
_RATES = ("netin", "netout", "diskread", "diskwrite")
# What goes up and down; the rest stands.
_MOVING = {"cpu", "mem", "memused", "loadavg", "iowait", *_RATES}


def _series(call: Call, since: float, now: Mapping[str, float]) -> list[dict[str, Any]]:
    """The points of a frame; `now` is what is measured at this moment."""
    seconds, count = FRAMES[str(call.params["timeframe"])]
    peak = 1.25 if call.params.get("cf") == "MAX" else 1.0
    last = int(call.cluster.now // seconds) * seconds
    points: list[dict[str, Any]] = []
    for number in range(count):
        moment = last - seconds * (count - number)
        point: dict[str, Any] = {"time": moment}
        if moment + seconds > since:
            wave = peak * (1 + 0.5 * math.sin(moment / 900))
            point.update({key: value * wave if key in _MOVING else value for key, value in now.items()})
        points.append(point)
    if points and len(points[-1]) == 1:
        points.pop()
    return points


def _unmeasured(name: str) -> ApiError:
    return die(f"RRD error: opening '/var/lib/rrdcached/db/{name}': No such file or directory")


def of_guest(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/{kind}/{vmid}/rrddata: whatever node is asked, by the VMID alone."""
    cluster = call.cluster
    guest = cluster.guests.get(call.vmid)
    if guest is None or guest.stat is None:
        raise _unmeasured(f"pve-vm-9.0/{call.vmid}")
    row = guest.stat.row
    busy = 1.0 if guest.running else 0.0
    now = {key: float(row[key]) for key in ("maxcpu", "cpu", "maxmem", "mem", "maxdisk", "disk")}
    now |= dict.fromkeys(_RATES, busy * 1000.0)
    now["memhost"] = now["mem"] * 1.1
    now |= {f"pressure{kind}": 0.0 for kind in ("cpufull", *_PRESSURE)}
    return _series(call, cluster.nodes[guest.node].since, now)


def of_node(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/rrddata: of a node that is down, too, for the databases are everywhere."""
    cluster = call.cluster
    node = cluster.nodes.get(call.node)
    if node is None:
        raise _unmeasured(f"pve-node-9.0/{call.node}")
    now = {
        "loadavg": 0.12,
        "maxcpu": float(node.maxcpu),
        "cpu": 0.02,
        "iowait": 0.001,
        "arcsize": 0.0,
        "memtotal": float(node.maxmem),
        "memused": float(resources.used_memory(cluster, node)),
        "swaptotal": 0.0,
        "swapused": 0.0,
        "roottotal": float(node.maxdisk),
        "rootused": float(node.maxdisk // 8),
        "netin": 2000.0,
        "netout": 1000.0,
        **{f"pressure{kind}": 0.0 for kind in _PRESSURE},
    }
    now["memavailable"] = now["memtotal"] - now["memused"]
    return _series(call, node.since, now)


def of_storage(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/storage/{storage}/rrddata."""
    cluster = call.cluster
    storage = cluster.storages.config(str(call.params["storage"]))
    now = {"total": float(storage.size), "used": float(cluster.storages.used(storage, call.node))}
    return _series(call, cluster.nodes[call.node].since, now)


ROUTES = {
    ("GET", "/nodes/{node}/rrddata"): of_node,
    ("GET", "/nodes/{node}/qemu/{vmid}/rrddata"): of_guest,
    ("GET", "/nodes/{node}/lxc/{vmid}/rrddata"): of_guest,
    ("GET", "/nodes/{node}/storage/{storage}/rrddata"): of_storage,
}
