# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster tells about itself: resources (with pvestatd's lag), nodes, status, version.

Sources: pve-manager, PVE/API2/Cluster.pm (resources, get_status), PVE/API2Tools.pm (extract_*), PVE/API2/Nodes.pm,
PVE/Service/pvestatd.pm.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from . import qemu_status
from .http import die
from .model import MIB, Guest, Node, Stat, Storage

if TYPE_CHECKING:
    from .cluster import Call, Cluster

RRD_SECONDS = 300.0  # how long pmxcfs keeps what was broadcast


def settle(cluster: Cluster, guest: Guest) -> None:
    """Have pvestatd tell about a guest now."""
    conf = guest.config
    lxc = guest.kind == "lxc"
    name = conf.get("hostname", f"CT{guest.vmid}") if lxc else conf.get("name", f"VM {guest.vmid}")
    power = guest.power
    maxmem = int(conf.get("memory", "512").removeprefix("current=")) * MIB
    row: dict[str, Any] = {
        "name": name,
        "status": (power.qmp if not lxc else "running") if power else "stopped",
        "template": int(guest.template),
        "maxcpu": qemu_status.cpus(conf) if not lxc else float(conf.get("cpulimit") or conf.get("cores") or 16),
        "cpu": guest.behaviour.cpu if power else 0,
        "maxmem": maxmem,
        "mem": maxmem // 4 if power else 0,
        "maxdisk": qemu_status.boot_disk_size(guest),
        "disk": 0,
        "netin": 0,
        "netout": 0,
        "diskread": 0,
        "diskwrite": 0,
    }
    if not lxc:
        row["memhost"] = 0
    guest.stat = Stat(row, power.since if power else None)


def broadcast(cluster: Cluster, name: str) -> None:
    """pvestatd's round on a node."""
    node = cluster.nodes[name]
    if not node.online:
        return
    node.ticked = cluster.now
    changed = cluster.take_changed()
    for vmid in list(changed):
        guest = cluster.guests.get(vmid)
        if guest is None:
            changed.discard(vmid)
        elif guest.node == name:
            changed.discard(vmid)
            settle(cluster, guest)


def guest_row(cluster: Cluster, guest: Guest) -> dict[str, Any]:
    """A guest as extract_vm_stats tells of it."""
    node = cluster.nodes[guest.node]
    row: dict[str, Any] = {
        "id": f"{guest.kind}/{guest.vmid}",
        "vmid": guest.vmid,
        "node": guest.node,
        "type": guest.kind,
        "status": "unknown",
    }
    stat = guest.stat
    if stat is not None and (not node.ticked or cluster.now - node.ticked < RRD_SECONDS):
        row["uptime"] = max(0, int((node.ticked or cluster.now) - stat.since)) if stat.since is not None else 0
        row.update(stat.row)
    return row


def _node_row(call: Call, node: Node, *, stats: bool) -> dict[str, Any]:
    """A node as extract_node_stats tells of it."""
    cluster = call.cluster
    row: dict[str, Any] = {"id": f"node/{node.name}", "node": node.name, "type": "node", "status": "unknown"}
    if not node.ticked or cluster.now - node.ticked < RRD_SECONDS:
        if node.online:
            if stats:
                row["uptime"] = int(cluster.now - node.since)
                row["cpu"] = 0.02
                row["mem"] = used_memory(cluster, node)
                row["disk"] = node.maxdisk // 8
            row["status"] = "online"
        row["level"] = ""
        if stats:
            row["maxcpu"] = node.maxcpu
            row["maxmem"] = node.maxmem
            row["maxdisk"] = node.maxdisk
    if not node.online and len(cluster.nodes) > 1:
        row["status"] = "offline"
    return row


def storage_row(cluster: Cluster, storage: Storage, node: Node) -> dict[str, Any]:
    """A storage on a node as extract_storage_stats tells of it."""
    row: dict[str, Any] = {
        "id": f"storage/{node.name}/{storage.name}",
        "storage": storage.name,
        "node": node.name,
        "type": "storage",
        "plugintype": storage.type,
        "status": "unknown",
        "shared": int(storage.shared),
        "content": ",".join(storage.content),
    }
    if not node.ticked or cluster.now - node.ticked < RRD_SECONDS:
        row["maxdisk"] = storage.size
        row["disk"] = cluster.storages.used(storage, node.name)
        row["status"] = "available"
    return row


def used_memory(cluster: Cluster, node: Node) -> int:
    """Bytes in use: the system's own and the running guests'."""
    guests: int = sum(
        guest.stat.row["maxmem"]
        for guest in cluster.guests.values()
        if guest.node == node.name and guest.power and guest.stat
    )
    return min(node.maxmem, 2 * 1024 * MIB + guests)


def cluster_resources(call: Call) -> list[dict[str, Any]]:
    """GET /cluster/resources."""
    cluster, wanted = call.cluster, call.params.get("type")
    pools, access, authid = cluster.access.pools, cluster.access, call.authid
    highly_available = bool(cluster.ha.resources)
    rows: list[dict[str, Any]] = []
    if wanted is None:
        for name in sorted(pools):
            if call.allowed(f"/pool/{name}", "Pool.Audit"):
                rows.append({"id": f"/pool/{name}", "pool": name, "type": "pool"})
    if wanted in (None, "vm"):
        audit_all = authid == "root@pam" or (cluster.guests and _sees_everything(call))
        for vmid, guest in sorted(cluster.guests.items()):
            if not audit_all and not access.allowed(authid, f"/vms/{vmid}", ("VM.Audit",)):
                continue
            row = guest_row(cluster, guest)
            for option in ("lock", "tags"):
                if option in guest.config:
                    row[option] = guest.config[option]
            pool = access.pool_of(vmid)
            if pool is not None and call.allowed(f"/pool/{pool}", "Pool.Audit"):
                row["pool"] = pool
            state = cluster.ha.state_of(vmid) if highly_available else None
            if state is not None:
                row["hastate"] = state
            rows.append(row)
    if wanted in (None, "node"):
        for node in cluster.nodes.values():
            row = _node_row(call, node, stats=call.allowed(f"/nodes/{node.name}", "Sys.Audit"))
            row["cgroup-mode"] = 2
            ha_state = cluster.ha.node_state(node.name)
            if ha_state is not None:
                row["hastate"] = ha_state
            rows.append(row)
    if wanted in (None, "storage"):
        for name, storage in sorted(cluster.storages.all.items()):
            if not call.allowed(f"/storage/{name}", "Datastore.Audit"):
                continue
            for node in cluster.nodes.values():
                if not storage.enabled or (storage.nodes is not None and node.name not in storage.nodes):
                    continue
                row = storage_row(cluster, storage, node)
                rows.append(row)
    if wanted in (None, "network") and call.allowed("/sdn/zones/localnetwork", "SDN.Audit"):
        for node_name in cluster.nodes:
            rows.append(
                {
                    "id": f"network/{node_name}/zone/localnetwork",
                    "type": "network",
                    "network-type": "zone",
                    "network": "localnetwork",
                    "node": node_name,
                    "status": "ok",
                }
            )
    return rows


def _sees_everything(call: Call) -> bool:
    """Whether VM.Audit comes down from / and nothing below takes it away."""
    acl = call.cluster.access.acl
    below = any(entry.path.startswith(("/vms", "/pool")) for entry in acl)
    return not below and call.cluster.access.permissions(call.authid, "/").get("VM.Audit") == 1


def cluster_status(call: Call) -> list[dict[str, Any]]:
    """GET /cluster/status."""
    cluster = call.cluster
    rows: list[dict[str, Any]] = []
    if len(cluster.nodes) > 1:
        rows.append(
            {
                "id": "cluster",
                "name": cluster.name,
                "nodes": len(cluster.nodes),
                "quorate": int(cluster.quorate),
                "type": "cluster",
                "version": len(cluster.nodes),
            }
        )
    for node in cluster.nodes.values():
        rows.append(
            {
                "id": f"node/{node.name}",
                "ip": node.ip,
                "level": "",
                "local": int(node.name == cluster.entry),
                "name": node.name,
                "nodeid": node.nodeid,
                "online": int(node.online),
                "type": "node",
            }
        )
    return rows


def _fingerprint(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, 64, 2))


def nodes(call: Call) -> list[dict[str, Any]]:
    """GET /nodes."""
    return [
        _node_row(call, node, stats=call.allowed(f"/nodes/{node.name}", "Sys.Audit"))
        | {"ssl_fingerprint": _fingerprint(node.name)}
        for node in call.cluster.nodes.values()
    ]


def node_status(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/status."""
    cluster, node = call.cluster, call.cluster.nodes[call.node]
    used = used_memory(cluster, node)
    disk = node.maxdisk // 8
    kernel = "6.17.2-1-pve"
    return {
        "boot-info": {"mode": "legacy-bios"},
        "cpu": 0.02,
        "cpuinfo": {
            "cores": node.maxcpu,
            "cpus": node.maxcpu,
            "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov sse4_2 aes avx avx2",
            "family": "26",
            "hvm": "1",
            "mhz": "2596.096",
            "model": "AMD EPYC",
            "sockets": 1,
            "user_hz": 100,
            "vendor": "AuthenticAMD",
        },
        "current-kernel": {
            "machine": "x86_64",
            "release": kernel,
            "sysname": "Linux",
            "version": "#1 SMP PREEMPT_DYNAMIC",
        },
        "idle": 0,
        "ksm": {"shared": 0},
        "kversion": f"Linux {kernel} #1 SMP PREEMPT_DYNAMIC",
        "loadavg": ["0.12", "0.10", "0.08"],
        "memory": {"available": node.maxmem - used, "free": node.maxmem - used, "total": node.maxmem, "used": used},
        "pveversion": f"pve-manager/{version(call)['version']}/{version(call)['repoid']}",
        "rootfs": {"avail": node.maxdisk - disk, "free": node.maxdisk - disk, "total": node.maxdisk, "used": disk},
        "swap": {"free": 0, "total": 0, "used": 0},
        "uptime": int(cluster.now - node.since),
        "wait": 0,
    }


def version(call: Call) -> dict[str, str]:
    """GET /version and /nodes/{node}/version."""
    return {"release": "9.2", "repoid": "14a22df35955d97d", "version": "9.2.11"}


def network(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/network."""
    node = call.cluster.nodes[call.node]
    rows: list[dict[str, Any]] = [
        {
            "active": 1,
            "families": ["inet"],
            "iface": "eth0",
            "method": "manual",
            "method6": "manual",
            "priority": 3,
            "type": "eth",
        }
    ]
    for number, bridge in enumerate(node.bridges):
        row: dict[str, Any] = {
            "active": 1,
            "autostart": 1,
            "bridge_fd": "0",
            "bridge_ports": "eth0" if number == 0 else "",
            "bridge_stp": "off",
            "families": ["inet"],
            "iface": bridge,
            "method": "static" if number == 0 else "manual",
            "method6": "manual",
            "priority": 4 + number,
            "type": "bridge",
        }
        if number == 0:
            row |= {"address": node.ip, "cidr": f"{node.ip}/24", "gateway": "10.99.0.254", "netmask": "24"}
        rows.append(row)
    wanted = call.params.get("type")
    if wanted in (None, "include_sdn"):
        return rows
    if wanted in ("any_bridge", "any_local_bridge", "bridge"):
        return [row for row in rows if row["type"] == "bridge"]
    return [row for row in rows if row["type"] == wanted]


def node_index(call: Call) -> list[dict[str, str]]:
    """GET /nodes/{node}."""
    if call.node not in call.cluster.nodes:
        raise die(f"no such cluster node '{call.node}'")
    return [{"name": name} for name in ("lxc", "network", "qemu", "status", "storage", "tasks", "version", "vzdump")]


def replication_jobs(call: Call) -> list[dict[str, Any]]:
    """GET /cluster/replication: no job can be made here, so there is none."""
    return []


ROUTES = {
    ("GET", "/cluster/replication"): replication_jobs,
    ("GET", "/cluster/resources"): cluster_resources,
    ("GET", "/cluster/status"): cluster_status,
    ("GET", "/nodes"): nodes,
    ("GET", "/nodes/{node}"): node_index,
    ("GET", "/nodes/{node}/status"): node_status,
    ("GET", "/nodes/{node}/version"): version,
    ("GET", "/nodes/{node}/network"): network,
    ("GET", "/version"): version,
}
