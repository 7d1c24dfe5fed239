# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling a cluster with guests, for the demo and for benchmarks."""

from __future__ import annotations

from .engine.cluster import Cluster
from .engine.model import GIB, Behaviour
from .engine.transfer import put_on_web

# A cloud image that the nodes find at an address, as if there was a web.
CLOUD_IMAGE = "https://cloud.example.com/images/debian-13-genericcloud-amd64.qcow2"
TAGS = ("web", "db", "prod", "test", "backup")


def populate(cluster: Cluster, guests: int, *, template: int = 9000) -> None:
    """Make a template with a cloud-init drive, pools, a cloud image on the web and `guests` guests spread over the nodes.

    Two thirds of them run, and one in ten is a container.

    The same seed and number make the same guests.
    """
    nodes = list(cluster.nodes)
    put_on_web(cluster, CLOUD_IMAGE, GIB // 4)
    for pool in ("web", "lab"):
        if pool not in cluster.access.pools:
            cluster.add_pool(pool)
    if template:
        cluster.add_template(
            template,
            "debian-13",
            node=nodes[0],
            disk="shared:3",
            config={"ide2": "shared:cloudinit", "agent": "1", "serial0": "socket", "vga": "serial0", "memory": "2048"},
        )
    vmid = 100
    for number in range(guests):
        while vmid in cluster.guests:
            vmid += 1
        running = number // len(nodes) % 3 != 2  # on each node
        node, address = nodes[number % len(nodes)], f"10.{10 + number // 65536}.{number // 256 % 256}.{number % 256}/8"
        tags = ";".join(sorted({TAGS[number % 5], TAGS[number % 3]}))
        size: dict[str, str | int] = {"cores": 1 + number % 4, "memory": 1024 * (1 + number % 4), "tags": tags}
        behaviour = Behaviour(addresses=(address,))
        if number % 10 == 9:
            net = f"name=eth0,bridge=vmbr0,ip={address}"
            cluster.add_ct(
                vmid, f"ct-{number:05d}", node=node, config={**size, "net0": net}, running=running, behaviour=behaviour
            )
        else:
            config = {**size, "agent": "1", "ipconfig0": f"ip={address}"}
            # The volume's full name saves looking for a free one.
            disk = f"local-lvm:vm-{vmid}-disk-0,size=8G"
            cluster.add_vm(
                vmid, f"vm-{number:05d}", node=node, disk=disk, config=config, running=running, behaviour=behaviour
            )
        if number % 10 == 0:
            cluster.access.pools["web" if number % 20 else "lab"].guests.add(vmid)
    cluster.access.changed()
