# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoints of access control and of pools; the rules themselves are in `tests.simulator.access`.

Sources: pve-access-control, PVE/API2/AccessControl.pm, ACL.pm, Domains.pm, Role.pm, User.pm; pve-manager, PVE/API2/Pool.pm.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..access import BUILTIN_ROLES, Pool
from . import resources
from .http import ApiError, die
from .propstring import split_list

if TYPE_CHECKING:
    from .cluster import Call


def create_ticket(call: Call) -> dict[str, Any]:
    """POST /access/ticket."""
    return call.cluster.access.create_ticket(call.params, call.cluster.now)


def permissions(call: Call) -> dict[str, Any]:
    """GET /access/permissions."""
    access, user = call.cluster.access, call.params.get("userid", call.authid)
    if user != call.authid and user.partition("!")[0] != call.authid:
        call.check("/access", "Sys.Audit")
    path = call.params.get("path")
    return {path: access.permissions(user, path)} if path else access.effective(user)


def acl(call: Call) -> list[dict[str, Any]]:
    """GET /access/acl: what the caller may see of it."""
    access = call.cluster.access
    everything = call.allowed("/access", "Sys.Audit")
    rows = []
    for entry in access.acl:
        if not everything:
            try:
                access.check_modify(call.authid, entry.path)
            except ApiError:
                continue
        rows.append(
            {
                "path": entry.path,
                "type": entry.kind,
                "ugid": entry.name,
                "roleid": entry.role,
                "propagate": int(entry.propagate),
            }
        )
    return rows


def domains(call: Call) -> list[dict[str, Any]]:
    """GET /access/domains."""
    return [
        {"realm": realm, "type": realm, "comment": comment} for realm, comment in call.cluster.access.realms.items()
    ]


def roles(call: Call) -> list[dict[str, Any]]:
    """GET /access/roles."""
    found = call.cluster.access.roles
    return [
        {"roleid": name, "privs": ",".join(sorted(found[name])), "special": 1 if name in BUILTIN_ROLES else ""}
        for name in sorted(found)
    ]


def users(call: Call) -> list[dict[str, Any]]:
    """GET /access/users."""
    access = call.cluster.access
    all_of_them = call.allowed_any("/access/groups", "User.Modify", "Sys.Audit")
    return [
        {"userid": name, "enable": int(user.enabled), "expire": user.expire, "realm-type": name.rpartition("@")[2]}
        for name, user in sorted(access.users.items())
        if all_of_them or name == call.authid
    ]


# --- pools --------------------------------------------------------------------------------------------------------------


def _members(call: Call, pool: Pool) -> list[dict[str, Any]]:
    cluster, kind = call.cluster, call.params.get("type")
    rows = [
        resources.guest_row(cluster, cluster.guests[vmid])
        for vmid in sorted(pool.guests)
        if vmid in cluster.guests and kind in (None, cluster.guests[vmid].kind)
    ]
    for name in sorted(pool.storages):
        storage = cluster.storages.all.get(name)
        if storage is None or kind not in (None, "storage"):
            continue
        nodes = storage.nodes or (cluster.entry,)
        node = cluster.entry if cluster.entry in nodes else nodes[0]
        rows.append(
            {
                "id": f"storage/{node}/{name}",
                "storage": name,
                "node": node,
                "type": "storage",
                "plugintype": storage.type,
                "status": "available",
                "shared": int(storage.shared),
                "content": ",".join(storage.content),
                "maxdisk": storage.size,
                "disk": cluster.storages.used(storage, node),
            }
        )
    return rows


def _info(call: Call, name: str) -> dict[str, Any]:
    pool = call.cluster.access.pools.get(name)
    if pool is None:
        raise die(f"pool '{name}' does not exist")
    row: dict[str, Any] = {"poolid": name, "members": _members(call, pool)}
    return row | ({"comment": pool.comment} if pool.comment else {})


def pool_list(call: Call) -> list[dict[str, Any]]:
    """GET /pools."""
    if "poolid" in call.params:
        return [_info(call, call.params["poolid"])]
    return [
        {"poolid": name, **({"comment": pool.comment} if pool.comment else {})}
        for name, pool in sorted(call.cluster.access.pools.items())
        if call.allowed(f"/pool/{name}", "Pool.Audit")
    ]


def pool_get(call: Call) -> dict[str, Any]:
    """GET /pools/{poolid}."""
    return _info(call, call.params["poolid"])


def _changing(call: Call, failure: str, change: Callable[[dict[str, Pool]], None]) -> None:
    """Change the pools all or nothing; errors get the text of the lock in front, and 403 becomes 500 (lock_user_config)."""
    call.cluster.need_quorum()
    pools = copy.deepcopy(call.cluster.access.pools)
    try:
        change(pools)
    except ApiError as error:
        status = f"{error.status} " if error.status != 500 else ""
        raise die(f"{failure}: {status}{error.text}") from None
    call.cluster.access.pools = pools
    call.cluster.access.changed()


def pool_create(call: Call) -> None:
    """POST /pools."""
    name = call.params["poolid"]

    def change(pools: dict[str, Pool]) -> None:
        if name in pools:
            raise die(f"pool '{name}' already exists")
        parent, _, leaf = name.rpartition("/")
        if parent and parent not in pools:
            raise die(f"parent '{parent}' of pool '{name}' does not exist")
        if not re.match(r"[A-Za-z]", leaf):
            raise die("pool name must start with a letter")
        pools[name] = Pool(call.params.get("comment", ""))

    _changing(call, "create pool failed", change)


def pool_update(call: Call) -> None:
    """PUT /pools and PUT /pools/{poolid}."""
    access, params, name = call.cluster.access, call.params, call.params["poolid"]

    def change(pools: dict[str, Pool]) -> None:
        if name not in pools:
            raise die(f"pool '{name}' does not exist")
        pool = pools[name]
        if "comment" in params:
            pool.comment = params["comment"]
        for vmid in map(int, split_list(params.get("vms", ""))):
            access.check_modify(call.authid, f"/vms/{vmid}")
            if params.get("delete"):
                if vmid not in pool.guests:
                    raise die(f"VM {vmid} is not a pool member")
                pool.guests.remove(vmid)
                continue
            if vmid in pool.guests:
                raise die(f"VM {vmid} is already a pool member")
            other = next((other for other, members in pools.items() if vmid in members.guests), None)
            if other is not None:
                if not params.get("allow-move"):
                    raise die(f"VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set")
                call.check(f"/pool/{other}", "Pool.Allocate")
                pools[other].guests.remove(vmid)
            pool.guests.add(vmid)
        for storage in split_list(params.get("storage", "")):
            access.check_modify(call.authid, f"/storage/{storage}")
            if params.get("delete"):
                if storage not in pool.storages:
                    raise die(f"Storage '{storage}' is not a pool member")
                pool.storages.remove(storage)
            elif storage in pool.storages:
                raise die(f"Storage '{storage}' is already a pool member")
            else:
                pool.storages.add(storage)

    _changing(call, "update pools failed", change)


def pool_delete(call: Call) -> None:
    """DELETE /pools and DELETE /pools/{poolid}."""
    cluster, name = call.cluster, call.params["poolid"]

    def change(pools: dict[str, Pool]) -> None:
        if name not in pools:
            raise die(f"pool '{name}' does not exist")
        inner = [other for other in sorted(pools) if other.rpartition("/")[0] == name]
        inner_text = [f"pool '{other}'" for other in inner]
        inner_text += [f"VM {vmid}" for vmid in sorted(pools[name].guests, key=str) if vmid in cluster.guests]
        inner_text += [
            f"storage '{storage}'" for storage in sorted(pools[name].storages) if storage in cluster.storages.all
        ]
        if inner_text:
            raise die(f"pool '{name}' is not empty (contains {inner_text[0]})")
        del pools[name]

    _changing(call, "delete pool failed", change)
    cluster.access.acl = [entry for entry in cluster.access.acl if entry.path != f"/pool/{name}"]
    cluster.access.changed()


ROUTES: dict[tuple[str, str], Callable[[Call], Any]] = {
    ("GET", "/access/ticket"): lambda call: None,
    ("POST", "/access/ticket"): create_ticket,
    ("GET", "/access/permissions"): permissions,
    ("GET", "/access/acl"): acl,
    ("GET", "/access/domains"): domains,
    ("GET", "/access/roles"): roles,
    ("GET", "/access/users"): users,
    ("GET", "/pools"): pool_list,
    ("POST", "/pools"): pool_create,
    ("PUT", "/pools"): pool_update,
    ("DELETE", "/pools"): pool_delete,
    ("GET", "/pools/{poolid}"): pool_get,
    ("PUT", "/pools/{poolid}"): pool_update,
    ("DELETE", "/pools/{poolid}"): pool_delete,
}
