# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in, and what users and permissions there are.

Sources: pve-access-control, PVE/API2/AccessControl.pm and PVE/API2/ACL.pm, PVE/API2/User.pm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import Sleep, Steps
from .http import ApiError

if TYPE_CHECKING:
    from .cluster import Call


def ticket(call: Call) -> Steps[dict[str, Any]]:
    """POST /access/ticket."""
    yield Sleep(0.1)
    return call.cluster.access.create_ticket(call.params, call.cluster.now)


def permissions(call: Call) -> dict[str, Any]:
    """GET /access/permissions: the caller's own, or another's with Sys.Audit on /access."""
    access, params = call.cluster.access, call.params
    who = params.get("userid") or call.authid
    owner = call.authid.partition("!")[0]
    if who != call.authid and not (call.by_token is False and who.startswith(f"{owner}!")):
        access.check(call.authid, "/access", ["Sys.Audit"])
    path = params.get("path")
    if path is not None:
        found = access.permissions(who, path)
        return {path: found} if found else {}
    return access.effective(who)


def acl(call: Call) -> list[dict[str, Any]]:
    """GET /access/acl."""
    access = call.cluster.access
    everything = call.allowed("/access", "Sys.Audit")
    rows = []
    for entry in access.acl:
        if not everything and not call.allowed_any(entry.path, "Permissions.Modify"):
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
        {"realm": realm, "type": realm, "comment": comment}
        for realm, comment in sorted(call.cluster.access.realms.items())
    ]


def users(call: Call) -> list[dict[str, Any]]:
    """GET /access/users: all of them with the right to see them, else oneself."""
    access = call.cluster.access
    everything = call.allowed_any("/access/groups", "User.Modify", "Sys.Audit")
    rows = []
    for userid, user in sorted(access.users.items()):
        if everything or userid == call.authid:
            realm = userid.rpartition("@")[2]
            rows.append({"userid": userid, "enable": int(user.enabled), "expire": user.expire, "realm-type": realm})
    return rows


def token_list(call: Call) -> list[dict[str, Any]]:
    """GET /access/users/{userid}/token."""
    user = call.cluster.access.users.get(call.params["userid"])
    if user is None:
        raise ApiError(500, f"user '{call.params['userid']}' does not exist")
    return [
        {"tokenid": name, "privsep": int(token.privsep), "expire": token.expire}
        for name, token in sorted(user.tokens.items())
    ]


ROUTES: dict[tuple[str, str], Any] = {
    ("POST", "/access/ticket"): ticket,
    ("GET", "/access/permissions"): permissions,
    ("GET", "/access/acl"): acl,
    ("GET", "/access/domains"): domains,
    ("GET", "/access/users"): users,
    ("GET", "/access/users/{userid}/token"): token_list,
}
