# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools.

Source: pve-manager, PVE/API2/Pool.pm.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..access import Pool
from . import resources
from .http import ApiError, die
from .propstring import split_list

if TYPE_CHECKING:
    from .cluster import Call


def listing(call: Call) -> list[dict[str, Any]]:
    """GET /pools."""
    pools = call.cluster.access.pools
    poolid = call.params.get("poolid")
    if poolid is not None:
        return [_info(call, poolid)]
    rows = []
    for name in sorted(pools):
        if call.allowed(f"/pool/{name}", "Pool.Audit"):
            row = {"poolid": name}
            if pools[name].comment:
                row["comment"] = pools[name].comment
            rows.append(row)
    return rows


def _info(call: Call, poolid: str) -> dict[str, Any]:
    cluster, wanted = call.cluster, call.params.get("type")
    pool = cluster.access.pools.get(poolid)
    if pool is None:
        raise die(f"pool '{poolid}' does not exist")
    members: list[dict[str, Any]] = [
        resources.guest_row(cluster, cluster.guests[vmid])
        for vmid in sorted(pool.guests)
        if vmid in cluster.guests and wanted in (None, cluster.guests[vmid].kind)
    ]
    if wanted in (None, "storage"):
        for name in sorted(pool.storages):
            if name in cluster.storages.all:
                storage = cluster.storages.all[name]
                node = cluster.entry if storage.nodes is None or cluster.entry in storage.nodes else storage.nodes[0]
                members.append(resources.storage_row(cluster, storage, cluster.nodes[node]))
    row: dict[str, Any] = {"poolid": poolid, "members": members}
    if pool.comment:
        row["comment"] = pool.comment
    return row


def read(call: Call) -> dict[str, Any]:
    """GET /pools/{poolid}."""
    return _info(call, call.params["poolid"])


def create(call: Call) -> None:
    """POST /pools."""
    pools, poolid = call.cluster.access.pools, call.params["poolid"]
    _writable(call, "create pool failed")
    if poolid in pools:
        raise die(f"create pool failed: pool '{poolid}' already exists")
    parent, _rest, leaf = poolid.rpartition("/")
    if parent and parent not in pools:
        raise die(f"create pool failed: parent '{parent}' of pool '{poolid}' does not exist")
    if not re.match("[A-Za-z]", leaf):
        raise die("create pool failed: pool name must start with a letter")
    pools[poolid] = Pool(call.params.get("comment", ""))
    call.cluster.access.changed()


def _writable(call: Call, what: str) -> None:
    if not call.cluster.quorate:
        raise die(f"{what}: cfs-lock 'file-user_cfg' error: no quorum!")


def update(call: Call) -> None:
    """PUT /pools and PUT /pools/{poolid}: all of it or nothing."""
    cluster, params, access = call.cluster, call.params, call.cluster.access
    poolid, remove = params["poolid"], bool(params.get("delete"))
    _writable(call, "update pools failed")
    try:
        pool = access.pools.get(poolid)
        if pool is None:
            raise die(f"pool '{poolid}' does not exist")
        guests, storages = set(pool.guests), set(pool.storages)
        moved: dict[int, str] = {}
        for text in split_list(str(params.get("vms", ""))):
            vmid = int(text)
            access.check_modify(call.authid, f"/vms/{vmid}")
            if remove:
                if vmid not in guests:
                    raise die(f"VM {vmid} is not a pool member")
                guests.discard(vmid)
                continue
            if vmid in guests:
                raise die(f"VM {vmid} is already a pool member")
            other = access.pool_of(vmid)
            if other is not None:
                if not params.get("allow-move"):
                    raise die(f"VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set")
                call.check(f"/pool/{other}", "Pool.Allocate")
                moved[vmid] = other
            guests.add(vmid)
        for name in split_list(str(params.get("storage", ""))):
            access.check_modify(call.authid, f"/storage/{name}")
            if remove != (name in storages):
                raise die(f"Storage '{name}' is {'not' if remove else 'already'} a pool member")
            storages ^= {name}
    except ApiError as error:
        if error.status == 500:
            raise die(f"update pools failed: {error.text}") from None
        raise
    for vmid, other in moved.items():
        access.pools[other].guests.discard(vmid)
    pool.guests, pool.storages = guests, storages
    if "comment" in params:
        pool.comment = params["comment"]
    cluster.access.changed()


def delete(call: Call) -> None:
    """DELETE /pools and DELETE /pools/{poolid}."""
    cluster, poolid = call.cluster, call.params["poolid"]
    pools = cluster.access.pools
    _writable(call, "delete pool failed")
    if poolid not in pools:
        raise die(f"delete pool failed: pool '{poolid}' does not exist")
    inner = sorted(name for name in pools if name.startswith(f"{poolid}/"))
    guests = sorted(vmid for vmid in pools[poolid].guests if vmid in cluster.guests)
    storages = sorted(name for name in pools[poolid].storages if name in cluster.storages.all)
    content = [
        *(f"pool '{name}'" for name in inner),
        *(f"VM {vmid}" for vmid in guests),
        *(f"storage '{name}'" for name in storages),
    ]
    if content:
        raise die(f"delete pool failed: pool '{poolid}' is not empty (contains {content[0]})")
    del pools[poolid]
    cluster.access.acl = [entry for entry in cluster.access.acl if entry.path != f"/pool/{poolid}"]
    cluster.access.changed()


ROUTES: dict[tuple[str, str], Any] = {
    ("GET", "/pools"): listing,
    ("POST", "/pools"): create,
    ("PUT", "/pools"): update,
    ("DELETE", "/pools"): delete,
    ("GET", "/pools/{poolid}"): read,
    ("PUT", "/pools/{poolid}"): update,
    ("DELETE", "/pools/{poolid}"): delete,
}
