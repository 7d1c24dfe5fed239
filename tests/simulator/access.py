# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: users, tokens, roles, ACLs, pools, tickets, and the permission expressions of the API schema.

A caller is named as the server names it: `root@pam`, `root@pam!token`, or empty for nobody.
Sources: pve-access-control PVE/RPCEnvironment.pm, PVE/AccessControl.pm, PVE/API2/AccessControl.pm; pve-manager PVE/HTTPServer.pm;
qemu-server PVE/API2/Qemu.pm; pve-container PVE/LXC.pm; pve-guest-common PVE/GuestHelpers.pm; pve-storage PVE/Storage.pm.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from .engine.http import ApiError, bad_parameters, die
from .formats import split_list

Json = Any
ROOT = "root@pam"
TICKET_LIFETIME = 7200
CLOCK_SKEW = 300
UNAUTHORIZED_DELAY = 3.0

# The privileges of each area by the rank that brings them (PVE/AccessControl.pm privgroups).
_GROUPS: Mapping[str, Mapping[str, str]] = {
    "VM": {
        "admin": "VM.Config.Disk VM.Config.CPU VM.Config.Memory VM.Config.Network VM.Config.HWType VM.Config.Options VM.Allocate "
        "VM.Clone VM.GuestAgent.Unrestricted VM.Migrate VM.Replicate VM.Snapshot VM.Snapshot.Rollback",
        "user": "VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.Backup VM.GuestAgent.FileRead VM.GuestAgent.FileSystemMgmt "
        "VM.GuestAgent.FileWrite VM.PowerMgmt",
        "audit": "VM.Audit VM.GuestAgent.Audit",
    },
    "Sys": {
        "root": "Sys.PowerMgmt Sys.Modify Sys.Incoming Sys.AccessNetwork",
        "admin": "Sys.Console Sys.Syslog",
        "audit": "Sys.Audit",
    },
    "Datastore": {
        "admin": "Datastore.Allocate Datastore.AllocateTemplate",
        "user": "Datastore.AllocateSpace",
        "audit": "Datastore.Audit",
    },
    "SDN": {"admin": "SDN.Allocate SDN.Audit", "user": "SDN.Use", "audit": "SDN.Audit"},
    "User": {"root": "Realm.Allocate", "admin": "User.Modify Group.Allocate Realm.AllocateUser"},
    "Pool": {"admin": "Pool.Allocate", "user": "Pool.Audit", "audit": "Pool.Audit"},
    "Mapping": {"admin": "Mapping.Modify", "user": "Mapping.Use", "audit": "Mapping.Audit"},
}


def _builtin_roles() -> dict[str, frozenset[str]]:
    roles: dict[str, set[str]] = {"NoAccess": set(), "PVEAdmin": set(), "PVEAuditor": set()}
    everything = {"Permissions.Modify"}
    for area, ranks in _GROUPS.items():
        admin, user, audit = (set(ranks.get(rank, "").split()) for rank in ("admin", "user", "audit"))
        everything |= admin | user | audit | set(ranks.get("root", "").split())
        roles[f"PVE{area}Admin"] = admin | user | audit
        roles["PVEAdmin"] |= admin | user | audit
        roles["PVEAuditor"] |= audit
        if user:
            roles[f"PVE{area}User"] = user | audit
    roles["PVEAdmin"] -= {"Mapping.Modify"}
    roles["PVETemplateUser"] = {"VM.Clone", "VM.Audit"}
    roles["Administrator"] = everything
    return {name: frozenset(privileges) for name, privileges in roles.items()}


BUILTIN_ROLES = _builtin_roles()


@dataclass
class Token:
    """An API token."""

    secret: str
    privsep: bool = True
    expire: int = 0
    comment: str = ""


@dataclass
class User:
    """A user. `totp` is the base32 secret of a second factor."""

    password: str = ""
    enabled: bool = True
    expire: int = 0
    totp: str = ""
    groups: set[str] = field(default_factory=set)
    tokens: dict[str, Token] = field(default_factory=dict)


@dataclass
class Pool:
    """A pool and its members."""

    comment: str = ""
    guests: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Entry:
    """One line of the access control list. `kind` is user, group or token."""

    path: str
    kind: str
    name: str
    role: str
    propagate: bool


@dataclass(frozen=True)
class Caller:
    """Who sends a request; `user` is empty for nobody."""

    user: str
    by_token: bool = False


def denied(what: str = "") -> ApiError:
    """403 with the server's text (PVE/Exception.pm raise_perm_exc)."""
    return ApiError(403, f"Permission check failed ({what})" if what else "Permission check failed")


def _unauthorized(text: str) -> ApiError:
    return ApiError(401, text, empty=True, seconds=UNAUTHORIZED_DELAY)


def totp(secret: str, now: float, digits: int = 6, step: int = 30) -> str:
    """The code of a base32 secret at a time (RFC 6238)."""
    key = base64.b32decode(secret.upper() + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(now // step)), hashlib.sha1).digest()
    start = digest[-1] & 15
    return str(int.from_bytes(digest[start : start + 4], "big") % (1 << 31) % 10**digits).zfill(digits)


def normalize_path(path: str) -> str | None:
    """An ACL path without doubled and trailing slashes; None when it is none."""
    path = "/" + "/".join(part for part in path.split("/") if part)
    return path if re.fullmatch(r"[A-Za-z0-9.\-_/]+", path) else None


class Access:
    """The state of user.cfg, and the questions that the server asks of it."""

    def __init__(self, *, seed: int = 0, cluster_name: str = "") -> None:
        self.users: dict[str, User] = {ROOT: User(password="labpass")}
        self.groups: dict[str, str] = {}
        self.roles: dict[str, frozenset[str]] = dict(BUILTIN_ROLES)
        self.realms = {"pam": "Linux PAM standard authentication", "pve": "Proxmox VE authentication server"}
        self.pools: dict[str, Pool] = {}
        self.acl: list[Entry] = []
        self.cluster_name = cluster_name
        self._secret = hashlib.sha256(f"cluster {seed}".encode()).digest()
        self._seed = seed
        self._cache: dict[tuple[str, str], dict[str, int]] = {}
        self._guest_pools: dict[int, list[str]] = {}

    # --- state -------------------------------------------------------------------------------------------------------

    def add_user(self, userid: str, password: str = "", *, totp_secret: str = "", groups: Iterable[str] = ()) -> User:
        """A user like `viewer@pve`; its groups come to exist."""
        self.users[userid] = user = User(password=password, totp=totp_secret, groups=set(groups))
        for group in user.groups:
            self.groups.setdefault(group, "")
        self.changed()
        return user

    def add_token(self, userid: str, name: str, *, secret: str = "", privsep: bool = True, expire: int = 0) -> str:
        """A token of a user; its secret comes back."""
        secret = secret or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._seed} {userid} {name}"))
        self.users.setdefault(userid, User()).tokens[name] = Token(secret, privsep, expire)
        self.changed()
        return secret

    def set_acl(self, path: str, who: str, role: str, propagate: bool = True) -> None:
        """Give a role on a path to `user@realm`, `user@realm!token` or `@group`."""
        kind = "group" if who.startswith("@") else "token" if "!" in who else "user"
        self.acl.append(Entry(path, kind, who.lstrip("@") if kind == "group" else who, role, propagate))
        self.changed()

    def pool_of(self, vmid: int) -> str | None:
        """The pool that a guest is in."""
        pools = self._index().get(vmid)
        return pools[0] if pools else None

    def add_to_pool(self, pool: str, vmid: int) -> None:
        """Make a guest a member of a pool; the pool exists."""
        self.pools[pool].guests.add(vmid)
        self.changed()

    def forget_guest(self, vmid: int) -> None:
        """What the server drops when a guest is destroyed: pool membership and ACLs."""
        for pool in self.pools.values():
            pool.guests.discard(vmid)
        self.acl = [entry for entry in self.acl if entry.path != f"/vms/{vmid}"]
        self.changed()

    def changed(self) -> None:
        """To be called after any change made from outside: answers are cached."""
        self._cache.clear()
        self._guest_pools.clear()

    def _index(self) -> dict[int, list[str]]:
        if not self._guest_pools:
            for name, pool in self.pools.items():
                for vmid in pool.guests:
                    self._guest_pools.setdefault(vmid, []).append(name)
        return self._guest_pools

    # --- who is it -----------------------------------------------------------------------------------------------------

    def authenticate(self, method: str, path: str, header: Mapping[str, str | None], now: float) -> Caller:
        """Who sends a request (PVE/HTTPServer.pm auth_handler).

        Args:
            method, path: of the request; the path below /api2/json.
            header: the values of `cookie`, `authorization` and `csrfpreventiontoken`.
            now: seconds since the epoch.

        Raises:
            ApiError: 401 after three seconds, or 403 of an upload.
        """
        cookie, authorization = header.get("cookie"), header.get("authorization")
        ticket = _auth_value(cookie, "PVEAuthCookie") or _auth_value(authorization, "PVEAuthCookie")
        api_token = None if ticket else _auth_value(authorization, "PVEAPIToken")
        if (path, method) in _OPEN:
            return Caller("", api_token is not None)
        if api_token is not None:
            user = self._verify_token(api_token, now)
        elif not ticket:
            raise _unauthorized("No ticket")
        else:
            data = self._open_ticket(ticket, now)
            if data is not None and data.startswith("!tfa!"):
                raise _unauthorized("No ticket")
            if data is None or not self._enabled(data, now):
                raise _unauthorized("Authentication failed!")
            user = data
        upload = re.fullmatch(r"/nodes/[^/]+/storage/([^/]+)/upload", path) if method == "POST" else None
        if upload:
            self.check_endpoint(user, {"check": ["perm", f"/storage/{upload[1]}", ["Datastore.AllocateTemplate"]]}, {})
        elif method != "GET" and api_token is None:
            self._verify_csrf(user, header.get("csrfpreventiontoken") or "", now)
        return Caller(user, api_token is not None)

    def create_ticket(self, values: Mapping[str, Json], now: float) -> dict[str, Json]:
        """The answer to POST /access/ticket (PVE/API2/AccessControl.pm create_ticket).

        Raises:
            ApiError: 401 with a JSON body, after three seconds.
        """
        user = str(values["username"])
        if values.get("realm"):
            user = f"{user}@{values['realm']}"
        challenge = self._login(user, values, now)
        if challenge is None:
            raise ApiError(401, "authentication failure", seconds=UNAUTHORIZED_DELAY)
        answer: dict[str, Json] = {
            "ticket": self.ticket(
                f"!tfa!{quote(challenge, safe='')}" if challenge else user, now, user if challenge else ""
            ),
            "username": user,
            "CSRFPreventionToken": self._csrf(user, now),
        }
        if challenge:
            answer["NeedTFA"] = 1
        else:
            answer["cap"] = self.capabilities(user)
        if self.cluster_name and self.allowed(user, "/", ["Sys.Audit"]):
            answer["clustername"] = self.cluster_name
        return answer

    def ticket(self, data: str, now: float, extra: str = "") -> str:
        """A signed ticket; `extra` is signed along but not contained."""
        plain = f"PVE:{data}:{int(now):08X}"
        return f"{plain}::{self._sign(plain + (':' + extra if extra else ''))}"

    def _login(self, user: str, values: Mapping[str, Json], now: float) -> str | None:
        """None: refused; empty: all is well; else the second factor's challenge, as JSON."""
        password, otp, answered = str(values["password"]), values.get("otp"), values.get("tfa-challenge")
        if not re.fullmatch(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", user) or not self._enabled(user, now):
            return None
        entry = self.users[user]
        if answered is not None:
            data = self._open_ticket(str(answered), now, user)
            good = (
                otp is None
                and data is not None
                and data.startswith("!tfa!")
                and self._second_factor(entry, password, now)
            )
            return "" if good else None
        if self._open_ticket(password, now) in (ROOT, user):
            return ""
        if not entry.password or password != entry.password:
            return None
        if not entry.totp:
            return "" if otp is None else None
        if otp is None:
            return json.dumps({"totp": True, "recovery": []}, separators=(",", ":"))
        return "" if self._second_factor(entry, str(otp), now) else None

    def _second_factor(self, user: User, response: str, now: float) -> bool:
        kind, _rest, code = response.partition(":")
        return kind == "totp" and any(code == totp(user.totp, now + shift) for shift in (-30, 0, 30))

    def _open_ticket(self, ticket: str, now: float, extra: str = "") -> str | None:
        found = re.fullmatch(r"(PVE:(\S+):([0-9A-F]{8}))::([^:\s]+)", ticket)
        if not found or not hmac.compare_digest(found[4], self._sign(found[1] + (":" + extra if extra else ""))):
            # A half-finished ticket is signed with the user's name, which only its second use tells.
            return "!tfa!" if found and found[2].startswith("!tfa!") and not extra else None
        age = now - int(found[3], 16)
        return found[2] if -CLOCK_SKEW < age < TICKET_LIFETIME else None

    def _sign(self, text: str) -> str:
        return base64.b64encode(hmac.new(self._secret, text.encode(), hashlib.sha512).digest()).decode()

    def _csrf(self, user: str, now: float) -> str:
        stamp = f"{int(now):08X}"
        digest = hmac.new(self._secret, f"{stamp}:{user}".encode(), hashlib.sha256).digest()
        return f"{stamp}:{base64.b64encode(digest).decode().rstrip('=')}"

    def _verify_csrf(self, user: str, token: str, now: float) -> None:
        found = re.fullmatch(r"([A-Z0-9]{8}):(\S+)", token)
        if found and re.fullmatch(r"[0-9A-F]{8}", found[1]):
            made = int(found[1], 16)
            if -CLOCK_SKEW < now - made < TICKET_LIFETIME and hmac.compare_digest(token, self._csrf(user, made)):
                return
        raise _unauthorized("Permission denied - invalid csrf token")

    def _verify_token(self, text: str, now: float) -> str:
        name, equals, secret = text.rpartition("=")
        owner, _rest, token_name = name.partition("!")
        token = self.users[owner].tokens.get(token_name) if owner in self.users else None
        good = equals and token is not None and self._enabled(owner, now) and hmac.compare_digest(token.secret, secret)
        if not good or token is None or (token.expire and token.expire < now):
            raise _unauthorized("Authentication failed!")
        return name

    def _enabled(self, userid: str, now: float) -> bool:
        user = self.users.get(userid)
        return user is not None and user.enabled and not (user.expire and user.expire < now)

    # --- what may they do ------------------------------------------------------------------------------------------------

    def _own_roles(self, user: str, path: str) -> dict[str, bool]:
        """Roles by the ACL alone; the value says whether they propagate (AccessControl.pm roles)."""
        owner, _rest, name = user.partition("!")
        if name:
            token = self.users[owner].tokens.get(name) if owner in self.users else None
            if token is None:
                return {}
            if not token.privsep:
                return {"Administrator": True} if owner == ROOT else self._own_roles(owner, path)
        groups = self.users[user].groups if user in self.users else set()
        parts = [part for part in path.split("/") if part]
        steps = ["/", *("/" + "/".join(parts[: count + 1]) for count in range(len(parts)))]
        roles: dict[str, bool] = {}
        for step in steps:
            final = step == steps[-1]
            mine = [entry for entry in self.acl if entry.path == step and (final or entry.propagate)]
            for kind, names in (("token", {user}), ("user", {user}), ("group", groups)):
                found = {entry.role: entry.propagate for entry in mine if entry.kind == kind and entry.name in names}
                if found:
                    # Nearer entries replace those from above, a user's own those of the groups.
                    roles = found
                    break
        return roles

    def permissions(self, user: str, path: str) -> dict[str, int]:
        """Every privilege on a path, with 1 where it propagates (RPCEnvironment.pm permissions)."""
        if user == ROOT:
            return dict.fromkeys(self.roles["Administrator"], 1)
        key = (user, path)
        if key not in self._cache:
            self._cache[key] = self._compute(user, path)
        return self._cache[key]

    def _compute(self, user: str, path: str) -> dict[str, int]:
        owner, _rest, name = user.partition("!")
        if owner not in self.users:
            return {}
        if name:
            token = self.users[owner].tokens.get(name)
            if token is None:
                return {}
            if not token.privsep:
                return self.permissions(owner, path)
        roles = self._own_roles(user, path)
        pooled = self._pool_roles(user, path)
        if pooled and "NoAccess" not in roles:
            roles = {"NoAccess": False} if "NoAccess" in pooled else {**dict.fromkeys(pooled, False), **roles}
        privileges: dict[str, int] = {}
        for role, propagate in roles.items():
            for privilege in self.roles.get(role, ()):
                privileges[privilege] = privileges.get(privilege, 0) or int(propagate)
        if name and owner != ROOT:
            limits = self.permissions(owner, path)
            privileges = {
                privilege: int(bool(limits[privilege] and value))
                for privilege, value in privileges.items()
                if privilege in limits
            }
        return privileges

    def _pool_roles(self, user: str, path: str) -> set[str]:
        kind, _rest, name = path.strip("/").partition("/")
        if kind == "vms" and name.isdigit():
            pools = self._index().get(int(name), [])
        elif kind == "storage":
            pools = [pool for pool, members in self.pools.items() if name in members.storages]
        else:
            return set()
        return {role for pool in pools for role in self._own_roles(user, f"/pool/{pool}")}

    def allowed(self, user: str, path: str, privileges: Sequence[str], any_of: bool = False) -> bool:
        """Whether all (or any) of the privileges are there."""
        have = self.permissions(user, path)
        return (any if any_of else all)(privilege in have for privilege in privileges)

    def check(self, user: str, path: str, privileges: Sequence[str], any_of: bool = False) -> None:
        """403 unless all (or any) of the privileges are there."""
        have = self.permissions(user, path)
        missing = [privilege for privilege in privileges if privilege not in have]
        if any_of and len(missing) == len(privileges):
            raise denied(f"{path}, {'|'.join(privileges)}")
        if missing and not any_of:
            raise denied(f"{path}, {missing[0]}")

    def check_guest(
        self, user: str, vmid: int, pool: str | None, privileges: Sequence[str], any_of: bool = False
    ) -> None:
        """403 unless the privileges are there on the pool or on the guest (check_vm_perm)."""
        if pool and self.allowed(user, f"/pool/{pool}", privileges, any_of):
            return
        self.check(user, f"/vms/{vmid}", privileges, any_of)

    def check_pool_exists(self, pool: str) -> None:
        """403 for an unknown pool."""
        if pool not in self.pools:
            raise denied(f"pool '{pool}' does not exist")

    def check_endpoint(self, user: str, rule: Mapping[str, Json], values: Mapping[str, Json]) -> None:
        """The `permissions` of an endpoint against the raw parameters (check_api2_permissions).

        Raises:
            ApiError: 403.
        """
        if not user:
            if rule.get("user") == "world":
                return
            raise denied("user != null")
        if user == ROOT:
            return
        if not rule:
            raise denied("user != root@pam")
        if rule.get("user") == "all":
            return
        if not rule.get("check"):
            raise denied()
        self._evaluate(rule["check"], user, values)

    def check_token_allowed(self, caller: Caller, allowtoken: bool, path: str) -> None:
        """403 for a token where only tickets do."""
        if caller.by_token and not allowtoken:
            error = denied()
            error.text += f" (URI '{path}' not available with API token, need proper ticket.\n)"
            raise error

    def _passes(self, check: Sequence[Json], user: str, values: Mapping[str, Json]) -> bool:
        """The test with noerr; `and` raises nevertheless, as on the server."""
        if check[0] == "and":
            self._evaluate(check, user, values)
            return True
        try:
            self._evaluate(check, user, values)
        except ApiError:
            return False
        return True

    def _evaluate(self, check: Sequence[Json], user: str, values: Mapping[str, Json]) -> None:
        test, rest = check[0], check[1:]
        if test == "and":
            for part in rest:
                self._evaluate(part, user, values)
        elif test == "or":
            if not any(self._passes(part, user, values) for part in rest):
                raise denied()
        elif test == "perm":
            options = dict(zip(rest[2::2], rest[3::2], strict=True))
            required = options.get("require_param")
            if required and values.get(required) is None:
                raise denied()
            path = normalize_path(_fill(rest[0], values))
            if path is None:
                # The server warns and finds no privilege on a path that is none.
                raise denied(f", {'|'.join(rest[1]) if options.get('any') else rest[1][0]}")
            self.check(user, path, rest[1], bool(options.get("any")))
        elif test == "userid-param":
            userid = str(values.get("userid", ""))
            if rest[0] == "self":
                if userid not in self.users:
                    raise die(f"user '{userid}' does not exist")
                if user != userid:
                    raise denied()
            else:
                self.check(user, f"/access/realm/{userid.rpartition('@')[2]}", [rest[0]])
        elif test == "userid-group":
            self._check_user_groups(user, rest, values)
        elif test == "perm-modify":
            self.check_modify(user, normalize_path(_fill(rest[0], values)) or "/")
        else:
            raise AssertionError(f"unknown permission test {test}")

    def check_modify(self, user: str, path: str) -> None:
        """403 unless ACLs of the path may be changed (check_perm_modify)."""
        more = {"storage": "Datastore.Allocate", "vms": "VM.Allocate", "pool": "Pool.Allocate"}
        area, _rest, name = path.strip("/").partition("/")
        self.check(user, path, ["Permissions.Modify", *([more[area]] if name and area in more else [])], True)

    def _check_user_groups(self, user: str, rest: Sequence[Json], values: Mapping[str, Json]) -> None:
        privileges, options = rest[0], dict(zip(rest[1::2], rest[2::2], strict=True))
        userid = str(values.get("userid", ""))
        existing = options.get("groups_param") != "create"
        if existing and userid not in self.users:
            raise die(f"user '{userid}' does not exist")
        if self.allowed(user, "/access/groups", privileges, True):
            return
        mine = {group for group in self.groups if self.allowed(user, f"/access/groups/{group}", privileges, True)}
        if options.get("groups_param"):
            wanted = split_list(str(values.get("groups", "")))
            for group in wanted or [""]:
                if group not in mine:
                    raise denied(f"/access/groups{'/' + group if group else ''}, {'|'.join(privileges)}")
        if existing and not mine & self.users[userid].groups:
            raise denied()

    # --- what the API shows of it ------------------------------------------------------------------------------------------

    def effective(self, user: str) -> dict[str, dict[str, int]]:
        """The answer to GET /access/permissions without a path."""
        paths = ["/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"]
        paths += [entry.path for entry in self.acl]
        for pool in self.pools.values():
            paths += [f"/vms/{vmid}" for vmid in pool.guests] + [f"/storage/{name}" for name in pool.storages]
        found = {path: self.permissions(user, path) for path in dict.fromkeys(paths)}
        return {path: privileges for path, privileges in found.items() if privileges}

    def capabilities(self, user: str) -> dict[str, dict[str, int]]:
        """`cap` in the answer of a login (compute_api_permission)."""
        areas = {
            "vms": r"VM\.|Permissions\.Modify",
            "access": r"(User|Group)\.|Permissions\.Modify",
            "storage": r"Datastore\.|Permissions\.Modify",
            "nodes": r"Sys\.|Permissions\.Modify",
            "sdn": r"SDN\.|Permissions\.Modify",
            "dc": r"Sys\.Audit|Sys\.Modify|SDN\.",
            "mapping": r"Mapping\.|Permissions.Modify",
        }
        result: dict[str, dict[str, int]] = {area: {} for area in areas}
        paths = [
            "/",
            "/nodes",
            "/access/groups",
            "/vms",
            "/storage",
            "/sdn",
            "/mapping",
            *(entry.path for entry in self.acl),
        ]
        for path in dict.fromkeys(paths):
            area = path.strip("/").split("/")[0] or "dc"
            for privilege in self.permissions(user, path):
                if area == "pool":
                    targets = ["vms"] if privilege.startswith("VM.") else []
                    targets += ["storage"] if privilege.startswith("Datastore.") else []
                    targets += ["vms", "storage"] if privilege == "Permissions.Modify" else []
                else:
                    targets = [area] if area in areas and re.match(areas[area], privilege) else []
                for target in targets:
                    result[target][privilege] = 1
        return result

    # --- checks that live in the code of the methods -------------------------------------------------------------------------

    def check_bridge(self, user: str, bridge: str, tag: str | None = None, trunks: str = "") -> None:
        """403 unless a bridge, or all its VLANs in use, may be used (GuestHelpers.pm check_vnet_access)."""
        if user == ROOT:
            return
        path = f"/sdn/zones/localnetwork/{bridge}"
        for vlan in [*([tag] if tag else []), *_vlans(trunks)]:
            self.check(user, f"{path}/{vlan}", ["SDN.Use"])
        if not tag and not trunks:
            self.check(user, path, ["SDN.Use"])

    def check_tags(self, user: str, vmid: int, old: str, new: str, *, registered: Iterable[str] = ()) -> None:
        """403 unless the difference of two tag lists may be made; `registered` are the datacenter's registered tags."""
        self.check_guest(user, vmid, None, ["VM.Config.Options"])
        if self.allowed(user, "/", ["Sys.Modify"]):
            return
        privileged = set(registered)
        for tag in sorted(set(split_list(old)) ^ set(split_list(new))):
            if tag in privileged:
                raise denied(f"/, Sys.Modify for modifying tag '{tag}'")

    def check_volume(
        self, user: str, vmid: int | None, volume: str, content: str, owner: int | None, wanted: str = ""
    ) -> None:
        """403 or 500 unless a volume may be used (Storage.pm check_volume_access).

        Args:
            volume: `storage:name`, or an absolute path.
            content: what the volume is: images, rootdir, iso, vztmpl, import, backup, snippets.
            owner: the guest that it belongs to.
            wanted: the content that is asked for, if any.
        """
        if volume.startswith("/"):
            if user != ROOT:
                raise die("Only root can pass arbitrary filesystem paths.")
            return
        if wanted and content != wanted and (wanted != "rootdir" or content != "images"):
            raise die(f"unable to use volume {volume} - content type needs to be '{wanted}'")
        storage = f"/storage/{volume.partition(':')[0]}"
        if self.allowed(user, storage, ["Datastore.Allocate"]):
            return
        if content in ("iso", "vztmpl", "import"):
            self.check(user, storage, ["Datastore.AllocateSpace", "Datastore.Audit"], True)
        elif owner is not None and owner == vmid:
            return
        elif content == "backup" and owner:
            self.check(user, storage, ["Datastore.AllocateSpace"])
            self.check(user, f"/vms/{owner}", ["VM.Backup"])
        elif content in ("images", "rootdir") and owner:
            self.check(user, storage, ["Datastore.Audit"])
            self.check(user, f"/vms/{owner}", ["VM.Config.Disk"])
        else:
            raise die(f"missing privileges to access {volume}")

    def check_vm_options(self, user: str, vmid: int, pool: str | None, options: Iterable[str]) -> None:
        """403 or 500 unless a VM's options may be set or removed, whatever their values (check_vm_modify_config_perm).

        Drives, tags, serial, usb and hostpci devices depend on the value: see the checks of their own.
        """
        if user == ROOT:
            return
        for option in options:
            if _VALUE_DEPENDENT.fullmatch(option):
                continue
            area = next((area for area, pattern in _VM_AREAS if pattern.fullmatch(option)), None)
            if area is None:
                raise die(f"only root can set '{option}' config")
            self.check_guest(user, vmid, pool, area, any_of="VM.Config.Cloudinit" in area)
            if option == "startup":
                self.check(user, "/", ["Sys.Modify"])

    def check_vm_device(
        self, user: str, vmid: int, pool: str | None, option: str, device: Mapping[str, str], value: str = ""
    ) -> None:
        """403, 400 or 500 unless a serial, usb, hostpci, rng or virtiofs device may be set.

        Args:
            device: the parsed property string (empty for a serial port).
            value: the text, for a serial port.
        """
        if user == ROOT:
            return
        kind = option.rstrip("0123456789")
        if kind == "serial":
            if value != "socket":
                raise die(f"only root can set '{option}' config for real devices")
            self.check_guest(user, vmid, pool, ["VM.Config.HWType"])
        elif kind == "usb":
            self.check_guest(user, vmid, pool, ["VM.Config.HWType"])
            if device.get("host"):
                if device["host"].lower() != "spice":
                    raise die(f"only root can set '{option}' config for real devices")
            else:
                self._check_mapping(user, "usb", device)
        elif kind == "hostpci":
            if device.get("host"):
                raise die(f"only root can set '{option}' config for non-mapped devices")
            self._check_mapping(user, "pci", device)
            self.check_guest(user, vmid, pool, ["VM.Config.HWType"])
            if "romfile" in device:
                raise bad_parameters({option: "only root@pam can set 'romfile' option"})
        elif kind == "rng":
            self.check_guest(user, vmid, pool, ["VM.Config.HWType"])
            if device.get("source") == "/dev/hwrng":
                self.check(user, "/mapping/hwrng", ["Mapping.Use"])
        elif kind == "virtiofs":
            self.check_guest(user, vmid, pool, ["VM.Config.Disk"])
            self.check(user, f"/mapping/dir/{device.get('dirid', '')}", ["Mapping.Use"])

    def _check_mapping(self, user: str, kind: str, device: Mapping[str, str]) -> None:
        if not device.get("mapping"):
            raise die("either 'host' or 'mapping' must be set.")
        self.check(user, f"/mapping/{kind}/{device['mapping']}", ["Mapping.Use"])

    def check_vm_drive(self, user: str, vmid: int, pool: str | None, option: str, is_cdrom: bool) -> None:
        """403 unless a drive of this kind may be changed (Qemu.pm update_vm_api: VM.Config.CDROM or VM.Config.Disk)."""
        if user != ROOT and option:
            self.check_guest(user, vmid, pool, ["VM.Config.CDROM" if is_cdrom else "VM.Config.Disk"])

    def check_allocation(self, user: str, storage: str) -> None:
        """403 unless space may be taken on a storage."""
        self.check(user, f"/storage/{storage}", ["Datastore.AllocateSpace"])

    def check_ct_option(self, user: str, vmid: int, pool: str | None, option: str) -> None:
        """403 unless a container's option may be set or removed, whatever its value (LXC.pm check_ct_modify_config_perm).

        Bridges, volumes, tags and feature flags depend on the value: see the checks of their own.
        """
        if user == ROOT:
            return
        if option in ("cores", "cpuunits", "cpulimit"):
            self.check_guest(user, vmid, pool, ["VM.Config.CPU"])
        elif re.fullmatch(r"rootfs|mp\d+", option):
            self.check_guest(user, vmid, pool, ["VM.Config.Disk"])
        elif option in ("memory", "swap"):
            self.check_guest(user, vmid, pool, ["VM.Config.Memory"])
        elif re.fullmatch(r"net\d+|nameserver|searchdomain|hostname", option):
            self.check_guest(user, vmid, pool, ["VM.Config.Network"])
        elif re.fullmatch(r"dev\d+", option):
            raise denied("configuring device passthrough is only allowed for root@pam")
        elif option == "hookscript":
            raise denied("changing the hookscript is only allowed for root@pam")
        elif option not in ("features", "tags"):
            self.check_guest(user, vmid, pool, ["VM.Config.Options"])

    def check_ct_features(
        self,
        user: str,
        vmid: int,
        pool: str | None,
        old: Mapping[str, str],
        new: Mapping[str, str],
        unprivileged: bool,
    ) -> None:
        """403 unless a container's feature flags may change from one set to another."""
        if user == ROOT:
            return
        if not unprivileged:
            raise denied("changing feature flags for privileged container is only allowed for root@pam")
        changed = {key for key in {*old, *new} if old.get(key, "") != new.get(key, "")}
        if changed - {"nesting"}:
            raise denied("changing feature flags (except nesting) is only allowed for root@pam")
        if changed:
            self.check_guest(user, vmid, pool, ["VM.Allocate"])

    def check_root_only(self, user: str, values: Mapping[str, Json], names: Iterable[str]) -> None:
        """400 for parameters such as `skiplock` of anybody but root@pam itself; a token of root is not root."""
        for name in names:
            if values.get(name) and user != ROOT:
                raise bad_parameters({name: "Only root may use this option."})


_OPEN = frozenset(
    [
        ("/access/domains", "GET"),
        ("/access/ticket", "GET"),
        ("/access/ticket", "POST"),
        ("/access/vncticket", "POST"),
        ("/access/openid/login", "POST"),
        ("/access/openid/auth-url", "POST"),
    ]
)

_VALUE_DEPENDENT = re.compile(
    r"(?:ide|sata|scsi|virtio|unused|serial|usb|hostpci|virtiofs)\d+|efidisk0|tpmstate0|cdrom|tags"
)
_VM_AREAS: tuple[tuple[list[str], re.Pattern[str]], ...] = (
    (["VM.Config.CPU"], re.compile(r"cores|cpu|runningcpu|cpulimit|cpuunits|numa\d*|smp|sockets|vcpus")),
    (["VM.Config.Memory"], re.compile(r"memory|balloon|shares|allow-ksm")),
    (
        ["VM.Config.HWType"],
        re.compile(r"acpi|hotplug|kvm|machine|runningmachine|scsihw|smbios1|tablet|vga|watchdog|audio0|rng0"),
    ),
    (
        ["VM.Config.Options"],
        re.compile(
            r"agent|autostart|bios|description|keyboard|localtime|migrate_downtime|migrate_speed|name|onboot|ostype|protection|reboot"
            r"|startdate|startup|tdf|template"
        ),
    ),
    (["VM.PowerMgmt"], re.compile(r"freeze")),
    (["VM.Config.Disk"], re.compile(r"boot|bootdisk|vmstatestorage")),
    (["VM.Config.Network"], re.compile(r"net\d+|running-nets-host-mtu")),
    (
        ["VM.Config.Cloudinit", "VM.Config.Network"],
        re.compile(r"cicustom|cipassword|citype|ciuser|ciupgrade|nameserver|searchdomain|sshkeys|ipconfig\d+"),
    ),
    (["VM.Config.Disk", "VM.PowerMgmt"], re.compile(r"vmstate")),
)


def _auth_value(header: str | None, key: str) -> str | None:
    found = re.search(rf"(?:^|\s){key}(?:=| )([^;]*)", header or "")
    return unquote(found[1]) if found else None


def _fill(template: str, values: Mapping[str, Json]) -> str:
    return re.sub(r"\{([^}]+)\}", lambda found: str(values.get(found[1]) or ""), template)


def _vlans(trunks: str) -> list[str]:
    """The VLANs of `2;5-7`."""
    result: list[str] = []
    for part in filter(None, trunks.split(";")):
        first, _rest, last = part.partition("-")
        result += [str(tag) for tag in range(int(first), int(last or first) + 1)]
    return sorted(result)
