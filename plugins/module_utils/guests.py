# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find one guest, wherever it is, and see how it is.

``/cluster/resources`` knows at once which VMIDs exist, on which node, with which lock, tags and pool; its names and
states lag by ten seconds and more (pvestatd), and it leaves out what the credentials may not see. So it finds guests, and
``status/current`` tells how they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import Effect, ProxmoxError, Refused, no_such_node, unreachable
from .plan import Reader
from .wire import did_you_mean, is_dns_name, is_true, parse_tags

KINDS = {"qemu": "VM", "lxc": "CT"}

# As many fresh guests without a name are asked one by one; more are looked up in their nodes' lists.
MANY_FRESH = 3

# Locks that are a state rather than somebody's work: a hibernated guest stays locked until it is started.
RESTING_LOCKS = frozenset({"suspended"})

# Locks of a guest that is being made: a clone of a VM keeps it as clone, everything else as create.
MAKING = ("clone", "create")

# Looks at a stopped guest that the server is about to start by itself, after a reboot or a rollback, before it is started from
# here; with growing pauses that is about 20 s.
LOOKS_BEFORE_START = 24


@dataclass(frozen=True)
class GuestRef:
    """How a play's task names a guest: by VMID, by name, or by both. Node, kind and pool save the search and prove nothing."""

    vmid: int | None = None
    name: str | None = None
    node: str | None = None
    kind: str | None = None
    pool: str | None = None

    def __str__(self) -> str:
        if self.vmid is None:
            return f"guest '{self.name}'"
        return f"guest {self.vmid}" + (f" ('{self.name}')" if self.name else "")


@dataclass(frozen=True)
class Guest:
    """A guest as observed.

    :param kind: qemu or lxc.
    :param status: running or stopped, live; a hibernated guest is stopped with lock suspended.
    :param qmpstatus: what QEMU says of itself (running, paused, prelaunch, ...); containers repeat their status.
    :param pool: None where it is in none or where nobody needed to ask.
    :param ha_state: the state that high availability is asked for, None for guests that it does not manage.
    :param lock_task: UPID of the running task that seems to hold the lock.
    :param unheld: how many looks in a row saw the lock and no task for it, though every task can be seen.
    """

    vmid: int
    kind: str
    node: str
    name: str | None = None
    status: str | None = None
    qmpstatus: str | None = None
    lock: str | None = None
    template: bool = False
    tags: tuple[str, ...] = ()
    pool: str | None = None
    ha_state: str | None = None
    uptime: int = 0
    lock_task: str | None = None
    unheld: int = 0

    @property
    def path(self) -> str:
        return f"/nodes/{self.node}/{self.kind}/{self.vmid}"

    def __str__(self) -> str:
        """Name it as the server does: VM 100, CT 101."""
        return f"{KINDS[self.kind]} {self.vmid}"

    def shown(self) -> dict[str, object]:
        """Return the guest as results show it."""
        return {
            "vmid": self.vmid,
            "name": self.name,
            "node": self.node,
            "type": self.kind,
            "status": self.status,
            "qmpstatus": self.qmpstatus,
            "lock": self.lock,
            "template": self.template,
            "tags": list(self.tags),
            "pool": self.pool,
            "ha_state": self.ha_state,
            "uptime": self.uptime,
        }


def checked_name(name: str | None) -> str | None:
    """Return the name that a guest is to have; Refused where the server takes no such name."""
    if name is not None and not is_dns_name(name):
        raise Refused(
            f"'{name}' cannot be the name of a guest: it is made like a host name, of letters, digits and hyphens, in parts that "
            "are joined by dots."
        )
    return name


def checked_vmid(vmid: int | None) -> int | None:
    """Return the VMID that a guest is to have; Refused where there is no such VMID."""
    if vmid is not None and not 100 <= vmid <= 999999999:
        raise Refused(f"{vmid} is no VMID; they go from 100 to 999999999.")
    return vmid


def reference(options: Mapping[str, Any]) -> GuestRef:
    """Return how module options name the guest."""
    return GuestRef(checked_vmid(options.get("vmid")), options.get("name"), options.get("node"), options.get("type"))


def own_name(vmid: int, name: str | None) -> str | None:
    """Return the name of a guest, None for the one that the server makes up where a guest has none, as while it is cloned: "VM 100"
    or "CT100" (vmstatus in PVE/QemuServer.pm and PVE/LXC.pm)."""
    return name if name not in (f"VM {vmid}", f"CT{vmid}") else None


def from_resource(row: Mapping[str, Any]) -> Guest:
    """Return a guest as a row of /cluster/resources tells; name, status and template of such a guest may be old or missing."""
    vmid = int(row["vmid"])
    return Guest(
        vmid=vmid,
        kind=row["type"],
        node=row["node"],
        name=own_name(vmid, row.get("name")),
        status=row.get("status"),
        lock=row.get("lock"),
        template=is_true(row.get("template")),
        tags=parse_tags(row.get("tags")),
        pool=row.get("pool"),
    )


def from_resources(rows: Iterable[Mapping[str, Any]]) -> list[Guest]:
    """Return the guests among rows of /cluster/resources."""
    return [from_resource(row) for row in rows if row["type"] in KINDS]


def every_guest(reader: Reader) -> list[Guest]:
    """Return the guests that the credentials may see, in one request."""
    return from_resources(reader.get("/cluster/resources", type="vm"))


def live_name(reader: Reader, guest: Guest) -> str | None:
    """Return the name in the guest's own configuration; None while it has none or is gone."""
    try:
        config = reader.get(f"{guest.path}/config")
    except ProxmoxError as error:
        if error.effect is Effect.ABSENT:
            return None
        raise
    name = config.get("name" if guest.kind == "qemu" else "hostname")
    return str(name) if name is not None else None


def named(reader: Reader, guests: list[Guest], name: str) -> list[Guest]:
    """Return those of the guests that carry the name; fresh ones, whose row has no name yet, are asked for theirs."""
    return [guest for guest in with_names(reader, guests) if guest.name == name]


def with_names(reader: Reader, guests: Sequence[Guest], *, hung: bool = False) -> list[Guest]:
    """Return the guests, fresh ones, whose row has no name yet, with the names that they say they have.

    Fresh ones on nodes that are down are left out.

    :param hung: so are those on nodes that hang; not for who makes a guest of a name that nobody has.
    """
    fresh = {guest.vmid: guest for guest in guests if guest.name is None and not being_made(guest)}
    if len(fresh) > MANY_FRESH:
        nodes = {guest.node for guest in fresh.values()} & set(online_nodes(reader))
        rows, _silent = answered_rows(reader, nodes, leave_out=unreachable if hung else _down)
        asked = [from_resource(row) for row in rows if int(row["vmid"]) in fresh]
    else:
        asked = _with_live_names(reader, fresh.values(), unreachable if hung else _down)
    return [guest for guest in guests if guest.vmid not in fresh] + asked


def _down(error: ProxmoxError) -> bool:
    return error.status == 595


def _with_live_names(reader: Reader, guests: Iterable[Guest], leave_out: Callable[[ProxmoxError], bool]) -> list[Guest]:
    """Return the guests with their own names; of a node that is left out only one is asked, for each waits until it is given up."""
    silent: set[str] = set()
    asked = []
    for guest in guests:
        if guest.node in silent:
            continue
        try:
            asked.append(replace(guest, name=live_name(reader, guest)))
        except ProxmoxError as error:
            if not leave_out(error):
                raise
            silent.add(guest.node)
    return asked


def keeps_case(reader: Reader) -> bool:
    """Tell whether the datacenter keeps upper case in tags; by default it does not (pve-guest-common, PVE/GuestHelpers.pm)."""
    style = (reader.get("/cluster/options") or {}).get("tag-style") or {}
    if not isinstance(style, Mapping):
        style = dict(part.partition("=")[::2] for part in str(style).split(","))
    return is_true(style.get("case-sensitive"))


def being_made(guest: Guest) -> bool:
    """Tell whether it is being made, so that it has no name yet, not even in its configuration."""
    return guest.name is None and guest.lock in MAKING


def tool_of(guest: Guest) -> str:
    """Return the command that a node has for guests of this kind."""
    return "qm" if guest.kind == "qemu" else "pct"


def online_nodes(reader: Reader) -> list[str]:
    """Return the nodes that the cluster sees, by name; one that has just started is "unknown" (PVE/API2Tools.pm,
    extract_node_stats)."""
    return sorted(row["node"] for row in reader.get("/nodes") if row.get("status") != "offline")


def check_node(reader: Reader, node: str) -> None:
    """Refuse a node that the cluster has not, for where the answer to something else makes one doubt it."""
    nodes = [row["node"] for row in reader.get("/nodes")]
    if node not in nodes:
        raise no_such_node(node, nodes)


def named_live(reader: Reader, name: str, nodes: Collection[str] | None = None) -> list[Guest]:
    """Return the guests of that name by each node's own list, which does not lag; nodes that are down are left out."""
    places = online_nodes(reader) if nodes is None else nodes
    return [from_resource(row) for row in live_rows(reader, places) if row.get("name") == name]


def live_rows(reader: Reader, nodes: Iterable[str], *, full: bool = False) -> Iterator[dict[str, Any]]:
    """Yield each node's own list of its guests, which does not lag, like rows of /cluster/resources.

    :param full: VMs with their qmpstatus, for which the node asks each of them (PVE/QemuServer.pm, vmstatus).
    """
    for node in sorted(nodes):
        for kind in KINDS:
            rows = reader.get(f"/nodes/{node}/{kind}", **({"full": True} if full and kind == "qemu" else {}))
            yield from ({**row, "type": kind, "node": node} for row in rows)


def answered_rows(
    reader: Reader,
    nodes: Iterable[str],
    *,
    full: bool = False,
    leave_out: Callable[[ProxmoxError], bool] = unreachable,
) -> tuple[list[dict[str, Any]], dict[str, ProxmoxError]]:
    """Return the lists of those nodes that answer, as live_rows does, and why the others did not.

    :param leave_out: which failures may keep a node out of the lists; others are raised.
    """
    rows: list[dict[str, Any]] = []
    silent: dict[str, ProxmoxError] = {}
    for node in sorted(nodes):
        try:
            rows += list(live_rows(reader, [node], full=full))
        except ProxmoxError as error:
            if not leave_out(error):
                raise
            silent[node] = error
    return rows, silent


def only_one(ref: GuestRef, found: list[Guest]) -> Guest:
    """Return the single guest found by name; several are refused, for nobody can tell which was meant."""
    if len(found) > 1:
        places = ", ".join(f"{guest.vmid} on {guest.node}" for guest in sorted(found, key=lambda guest: guest.vmid))
        raise Refused(
            f"{len(found)} guests are called '{ref.name}' ({places}); name the one that is meant by its vmid."
        )
    return found[0]


def find(reader: Reader, ref: GuestRef, *, live: bool = False) -> Guest:
    """Return where the guest is, by the list of the whole cluster; Refused where there is none.

    :param live: names by each node's own list, for when the cluster's list proved old.
    """
    if ref.vmid is None:
        name = ref.name or ""
        guests = [] if live else every_guest(reader)
        found = named(reader, guests, name) or named_live(reader, name)
        if not found:
            raise Refused(
                f"No guest is called '{name}'{did_you_mean([name], (guest.name for guest in guests))}. Guests that the credentials "
                "may not see (VM.Audit on /vms/VMID) and guests of nodes that are down are not among those searched."
            )
        return only_one(ref, found)
    # There may be thousands; only the one is made a Guest.
    rows = [row for row in reader.get("/cluster/resources", type="vm") if str(row.get("vmid")) == str(ref.vmid)]
    if guests := from_resources(rows):
        return guests[0]
    if vmid_is_taken(reader, ref.vmid):
        raise Refused(
            f"Guest {ref.vmid} exists, but the credentials may not see it; they need VM.Audit on /vms/{ref.vmid}."
        )
    raise Refused(f"There is no guest with VMID {ref.vmid} in this cluster.")


def vmid_is_taken(reader: Reader, vmid: int) -> bool:
    """Tell whether any guest has this VMID, seen or unseen (PVE/API2/Cluster.pm, nextid reads the full list of guests).

    Raises ProxmoxError for a number that is no VMID.
    """
    try:
        reader.get("/cluster/nextid", vmid=vmid)
    except ProxmoxError as error:
        if error.effect is Effect.STALE:
            return True
        raise
    return False


def observe(reader: Reader, ref: GuestRef, previous: Guest | None = None) -> Guest:
    """Return the guest as it is now: one request where VMID and node are known, one more where it must be searched.

    :param previous: where an earlier look in the same run has found it.
    """
    for guess in _guesses(ref, previous):
        try:
            guest = look(reader, guess)
        except ProxmoxError as error:
            if error.effect is Effect.ABSENT:
                break
            if not unreachable(error):
                raise
            guest = look(reader, elsewhere(reader, guess, error))
        if previous is None:
            _check_name(ref, guest)
        return with_holder(reader, guest, previous)
    guest = look(reader, find(reader, ref))
    if ref.vmid is None and guest.name != ref.name:
        # The cluster's list still had the name that this guest carried some seconds ago.
        guest = look(reader, find(reader, ref, live=True))
    _check_name(ref, guest)
    return with_holder(reader, guest, previous)


def elsewhere(reader: Reader, guess: Guest, error: ProxmoxError) -> Guest:
    """Return where the guest is by the list of the whole cluster, as its node gave no answer; raises the error where it is there.

    Asking that node again in the same look would only take as long again.
    """
    found = find(reader, GuestRef(guess.vmid))
    if found.node == guess.node:
        raise error
    return found


def _guesses(ref: GuestRef, previous: Guest | None) -> Iterator[Guest]:
    """Yield where the guest should be."""
    if previous is not None:
        yield previous
    elif ref.vmid is not None and ref.node is not None:
        yield Guest(ref.vmid, ref.kind or "qemu", ref.node, pool=ref.pool)


def look(reader: Reader, guess: Guest) -> Guest:
    """Return the guest with its live state, and what only the cluster's list knows (the pool) is kept."""
    now = reader.get(f"{guess.path}/status/current")
    ha = now.get("ha") or {}
    return Guest(
        vmid=guess.vmid,
        kind=guess.kind,
        node=guess.node,
        name=own_name(guess.vmid, now.get("name")),
        status=now["status"],
        qmpstatus=now.get("qmpstatus", now["status"]),
        lock=now.get("lock"),
        template=is_true(now.get("template")),
        tags=parse_tags(now.get("tags")),
        pool=guess.pool,
        ha_state=(ha.get("state") or "started") if is_true(ha.get("managed")) else None,
        uptime=int(now.get("uptime") or 0),
    )


def _check_name(ref: GuestRef, guest: Guest) -> None:
    if ref.name is not None and guest.name != ref.name:
        raise Refused(
            f"{guest} on node {guest.node} is called '{guest.name}', not '{ref.name}'; nothing was done to it."
        )


def with_holder(reader: Reader, guest: Guest, previous: Guest | None) -> Guest:
    """Return the guest with the task that holds its lock, where it is locked."""
    if guest.lock is None or guest.lock in RESTING_LOCKS:
        return guest
    tasks = _active(reader, guest.node, vmid=guest.vmid)
    if not tasks and guest.lock == "backup":
        # A backup of several guests runs under none of their VMIDs (PVE/API2/VZDump.pm).
        tasks = _active(reader, guest.node, typefilter="vzdump")
    if not tasks and guest.lock in ("clone", "create"):
        # A clone's task runs under the VMID of its source, on the source's node (PVE/API2/Qemu.pm, clone_vm).
        running = [task for node in online_nodes(reader) for task in _active(reader, node)]
        tasks = [task for task in running if task["type"] in ("qmclone", "vzclone")]
    if not tasks and guest.lock == "migrate":
        # At the end of a migration the guest is on the new node and the task still on the old one (PVE/QemuMigrate.pm).
        tasks = [task for node in online_nodes(reader) for task in _active(reader, node, vmid=guest.vmid)]
    if tasks:
        return replace(guest, lock_task=tasks[0]["upid"])
    if guest.ha_state is not None or not _sees_every_task(reader, guest.node):
        return guest
    return replace(guest, unheld=1 + (previous.unheld if previous is not None else 0))


def _active(reader: Reader, node: str, **query: object) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = reader.get(f"/nodes/{node}/tasks", source="active", **query)
    return tasks


def _sees_every_task(reader: Reader, node: str) -> bool:
    """Tell whether tasks of other users are listed; without Sys.Audit a token sees only its own."""
    path = f"/nodes/{node}"
    rights: dict[str, dict[str, object]] = reader.get("/access/permissions", path=path)
    return "Sys.Audit" in rights.get(path, {})


def wait_for_lock(guest: Guest) -> str:
    """Return what to wait for while the guest is locked; a lock that nobody holds is refused, with the remedy."""
    if guest.unheld >= 2:
        tool = tool_of(guest)
        remedy = (
            "it is most likely the rest of one that was cut off; look at it and remove it with "
            f"'{tool} unlock {guest.vmid}' and '{tool} destroy {guest.vmid}' on that node"
            if guest.lock in (*MAKING, "destroyed")
            else f"see that nothing works on it any more, then run '{tool} unlock {guest.vmid}' on that node"
        )
        if guest.lock == "backup" and guest.qmpstatus == "prelaunch":
            remedy += f", and 'qm stop {guest.vmid}', for it was started for the backup only"
        raise Refused(
            f"{guest} on node {guest.node} is locked ({guest.lock}), and no running task holds the lock; {remedy}."
        )
    holder = f", held by {guest.lock_task}" if guest.lock_task else ""
    return f"the lock '{guest.lock}' of {guest}{holder}"
