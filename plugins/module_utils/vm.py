# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest as one declaration: there, as it is wanted, running or not, a template, or gone.

A composite: what finds and clones a guest, what configures it and what starts it is that of `clone`, `config` and `power`; here is
what makes a guest of nothing or of a backup, what deletes one, and the order of it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from . import agent, clone, config, hosts, power
from .capacity import AUTO
from .errors import Effect, ProxmoxError, Refused, no_such_node
from .guests import (
    KINDS,
    MAKING,
    RESTING_LOCKS,
    Guest,
    GuestRef,
    every_guest,
    from_resource,
    look,
    vmid_is_taken,
    wait_for_lock,
)
from .guests import observe as observe_guest
from .options import READ, is_disk, properties_of
from .plan import Call, Feature, Plan, Reader
from .wire import format_properties, is_true, parse_properties, parse_upid, succeeded

# Where a guest comes from that has to be made; more than one of them is a contradiction.
ORIGINS = ("clone", "archive", "ostemplate")

# Options that shape one of them only.
_SHAPES = {"full": "clone", "format": "clone", "snapname": "clone", "unique": "archive", "password": "ostemplate"}

# Of a configuration, what a copy does not take over (PVE/API2/Qemu.pm and PVE/API2/LXC.pm, clone_vm).
_NOT_COPIED = re.compile(
    r"lock|digest|parent|template|snap\w+|vmstate|runningmachine|runningcpu|running-nets-host-mtu|unused\d+|lxc"
)
_MAC = ("macaddr", "hwaddr")
_VOLUME = re.compile(r"(.*/|)(vm|base|subvol|basevol)-(\d+)-(.+)")
_BASE = re.compile(r"(?:^|/)base(?:vol)?-\d+-[^/]+$")


@dataclass(frozen=True)
class Wanted:
    """What the play's task wants.

    :param state: present, template or absent. :param kind: None where the task does not say.
    :param node: where a guest is made that has to be. :param fresh: parameters that only a call takes that makes the guest.
    :param making: how to find it, and to clone it. :param power: None for whatever it is.
    :param keys: SSH keys, which are options of VMs and only given to containers that are made.
    :param wait_for: none, agent or ip. :param liked: which addresses are.
    :param force: whether a running guest may be stopped without asking it.
    """

    state: str
    making: clone.Wanted
    config: config.Wanted
    kind: str | None = None
    node: str | None = None
    origin: str | None = None
    fresh: Mapping[str, object] = field(default_factory=dict)
    power: power.Wanted | None = None
    keys: object = None
    unprivileged: bool | None = None
    wait_for: str = agent.NOTHING
    liked: hosts.Networks = field(default_factory=hosts.Networks)
    force: bool = False
    allow_template: bool = False
    purge: bool = False
    destroy_unreferenced_disks: bool = False


@dataclass(frozen=True)
class Observed:
    """What was found.

    :param making: the guest, or what making it needs to know.
    :param config: of the guest, or the one that a guest has that is just made; None where nobody can tell yet.
    :param stopped_looks: looks in a row at which it was stopped, this one included.
    :param reached: what its agent or its node tells, None where nobody was asked.
    :param linked: a volume of another guest that hangs on this template.
    :param conversion: the newest task that made or makes a template of this container. :param earlier: UPID of the one that had
        ended at the first look. :param over: whether the rest of one that could not be restored is in the place of the guest.
    """

    making: clone.Observed
    config: config.Observed | None = None
    stopped_looks: int = 0
    reached: agent.Reached | None = None
    linked: str | None = None
    conversion: Mapping[str, Any] | None = None
    earlier: str | None = None
    over: bool = False

    @property
    def guest(self) -> Guest | None:
        return self.making.existing


# --- what is wanted ---


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for; Refused where they contradict each other."""
    origins = [name for name in ORIGINS if options.get(name)]
    if len(origins) > 1:
        raise Refused(f"{' and '.join(origins)} are two ways to make a guest; name one.")
    origin = origins[0] if origins else None
    for name, needed in _SHAPES.items():
        if options.get(name) is not None and needed != origin:
            raise Refused(f"{name} says how a guest is made from {needed}, and the task names no {needed}.")
    if origin == "archive" and options.get("vmid") is None:
        raise Refused(
            "archive needs vmid: a backup that could not be restored leaves a guest without a name, which nobody would find again."
        )
    kind = _kind(options, origin)
    source = options.get("clone")
    if options.get("node") == AUTO:
        raise Refused("node=auto is for proxmox_vm_clone (target_node) and proxmox_migrate; name the node.")
    making = clone.wanted({**options, "source": source or "0", "target_node": options.get("node") if source else None})
    if source is None:
        making = replace(making, source=None, kind=kind or "qemu", place=options.get("node"))
    pool = options.get("pool")
    making = replace(making, pool=pool or None, description=None, storage=making.storage if origin == "clone" else None)
    state, running = options["state"], options["power"]
    if state == "template" and running == "started":
        raise Refused("A template does not run; state=template and power=started exclude each other.")
    if options["wait_for"] != agent.NOTHING and (state != "present" or running == "stopped"):
        raise Refused(f"wait_for={options['wait_for']} is for guests that are to run.")
    force = bool(options.get("force"))
    ref = GuestRef(options.get("vmid"), options.get("name"))
    keys = options.get("sshkeys")
    return Wanted(
        state=state,
        making=making,
        config=config.wanted({**options, "name": None, **({"sshkeys": None} if kind == "lxc" else {})}),
        kind=kind if options.get("type") or kind == "lxc" else None,
        node=options.get("node"),
        origin=origin,
        fresh=_fresh(options, origin),
        power=power.Wanted(ref, running, "now" if force else "never") if running != "untouched" else None,
        keys=keys,
        unprivileged=options.get("unprivileged"),
        wait_for=options["wait_for"],
        liked=agent.networks(options),
        force=force,
        **{key: bool(options.get(key)) for key in ("allow_template", "purge", "destroy_unreferenced_disks")},
    )


def _kind(options: Mapping[str, Any], origin: str | None) -> str | None:
    """Return the kind of guest that the task names, by its type or by what it is made from."""
    kind: str | None = options.get("type")
    if origin == "ostemplate":
        told: str | None = "lxc"
    elif origin == "archive":
        told = "lxc" if re.search(r"vzdump-lxc-|backup/ct/", str(options["archive"])) else "qemu"
    else:
        return kind
    if kind not in (None, told):
        raise Refused(f"{origin} makes a {KINDS[str(told)]}, and type={kind} is wanted.")
    return told


def _fresh(options: Mapping[str, Any], origin: str | None) -> dict[str, object]:
    """Return the parameters that only the making of a guest takes, under the server's names."""
    if origin == "clone":
        return {}
    names = {"ostemplate": "ostemplate", "archive": "archive", "unique": "unique", "storage": "storage"}
    names.update(bwlimit="bwlimit", password="password")
    return {key: options[name] for name, key in names.items() if options.get(name) is not None}


# --- what there is ---


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guest, its configuration and what it tells of its addresses, or what making it needs to know."""
    if want.state == "absent":
        return _observe_doomed(want, reader, previous)
    glance: Observed | None = None
    if previous is None and want.wait_for != agent.NOTHING:
        glance, reader = _at_a_glance(want, reader)
        if glance is not None and glance.reached is not None and glance.reached.silent is None:
            return glance
    before = previous.making if previous is not None else _hinted(want, reader)
    made = clone.observe(want.making, reader, before)
    guest = made.existing
    if guest is None:
        return Observed(made, _foretold(want, made, reader, previous))
    if guest.lock in MAKING or guest.lock == "destroyed":
        return Observed(made)
    seen = previous.config if previous is not None and previous.guest is not None else None
    conversion, earlier = _conversion(want, guest, reader, previous)
    read = config.read(_config_of(want, guest), reader, guest, seen)
    if not read.rows and want.origin == "archive":
        # The rest of a backup that could not be restored; it is restored over.
        made = replace(made, existing=None, newid=guest.vmid)
        return Observed(made, _foretold(want, made, reader, previous), over=True)
    looks = previous.stopped_looks if previous is not None else 0
    now = Observed(
        replace(made, existing=read.guest),
        read,
        stopped_looks=looks + 1 if guest.status == power.STOPPED else 0,
        conversion=conversion,
        earlier=earlier,
    )
    return now if glance is not None else _with_addresses(want, now, reader, previous)


@dataclass
class _Remembering:
    """Reads, and answers the first question after the whole cluster with what is known. :param rows: of /cluster/resources."""

    reader: Reader
    rows: list[Any] | None

    @property
    def server_time(self) -> int | None:
        return self.reader.server_time

    def get(self, path: str, /, **query: object) -> Any:
        if path == "/cluster/resources" and not query and self.rows is not None:
            rows, self.rows = self.rows, None
            return rows
        return self.reader.get(path, **query)


def _at_a_glance(want: Wanted, reader: Reader) -> tuple[Observed | None, Reader]:
    """Return a VM that seems to run, with its addresses where nothing is left to do; who answers runs, so nobody asks whether.

    None where no such VM is seen. The reader that comes with it remembers what the cluster said.
    """
    if _hinted(want, reader) is not None:
        return None, reader
    rows = reader.get("/cluster/resources")
    kept = _Remembering(reader, rows)
    vmid, name = want.making.vmid, want.making.name
    guests = {int(row["vmid"]): row for row in rows if row["type"] in KINDS}
    found = [one for one, row in guests.items() if one == vmid or (name is not None and row.get("name") == name)]
    unsure = any(from_resource(row).name is None for row in guests.values()) or len(found) != 1
    row = guests[found[0]] if found else {}
    if unsure or row["type"] != "qemu" or row.get("status") != power.RUNNING or row.get("lock") or row.get("hastate"):
        return None, kept
    guest = replace(from_resource(row), qmpstatus=power.RUNNING, uptime=int(row.get("uptime") or 0))
    try:
        read = config.read(_config_of(want, guest), kept, guest, None)
    except ProxmoxError as error:
        if error.effect is not Effect.ABSENT and error.status != 595:
            raise
        return None, kept
    if read.guest.lock is not None or name not in (None, read.guest.name) or vmid not in (None, guest.vmid):
        return None, kept
    return _with_addresses(want, Observed(clone.Observed(existing=read.guest), read), kept, None), kept


def _hinted(want: Wanted, reader: Reader) -> clone.Observed | None:
    """Return the guest where the task says that it probably is, as if an earlier look had found it there."""
    vmid, node = want.making.vmid, want.node
    if vmid is None or node is None or want.config.pool is not None:
        return None
    return clone.Observed(existing=Guest(vmid, want.kind or "qemu", node))


def _conversion(
    want: Wanted, guest: Guest, reader: Reader, previous: Observed | None
) -> tuple[Mapping[str, Any] | None, str | None]:
    """Return the newest task that made a template of a container, which the server starts and does not name
    (PVE/API2/LXC.pm, template), and the UPID of the one that had ended at the first look."""
    first = previous is None or previous.guest is None
    if want.state != "template" or guest.kind != "lxc" or (first and guest.template):
        return None, None
    rows = reader.get(f"/nodes/{guest.node}/tasks", source="all", typefilter="vztemplate", vmid=guest.vmid)
    newest: Mapping[str, Any] | None = max(rows, key=lambda row: _begun(row["upid"]), default=None)
    if newest is not None and str(newest.get("status")).startswith("WARNINGS"):
        log = reader.get(f"/nodes/{guest.node}/tasks/{newest['upid']}/log", limit=0)
        lines = [str(line.get("t", "")) for line in log]
        newest = {**newest, "warnings": [line.removeprefix("WARN: ") for line in lines if line.startswith("WARN: ")]}
    if previous is not None and not first:
        return newest, previous.earlier
    return newest, newest["upid"] if newest is not None and not _runs(newest) else None


def _begun(upid: str) -> int:
    parsed = parse_upid(upid)
    return parsed.start if parsed is not None else 0


def _runs(task: Mapping[str, Any]) -> bool:
    return task.get("status") in (None, "RUNNING")


def _config_of(want: Wanted, guest: Guest) -> config.Wanted:
    """Return what is wanted of the configuration of this guest."""
    values = dict(want.config.values)
    if guest.kind == "lxc":
        values.pop("sshkeys", None)
    return replace(want.config, guest=GuestRef(guest.vmid, node=guest.node, kind=guest.kind), values=values)


def _place(want: Wanted, made: clone.Observed) -> str | None:
    """Return the node on which the guest is to be in the end, None where nothing says."""
    source = made.source
    return want.node or (source.node if source is not None else None)


def _foretold(want: Wanted, made: clone.Observed, reader: Reader, previous: Observed | None) -> config.Observed | None:
    """Return the configuration that the guest will have when it is made, None where it cannot be made or nobody can see it."""
    node = _place(want, made)
    if made.newid is None or node is None or (want.origin == "clone" and made.source is None):
        return None
    if previous is not None and previous.config is not None and previous.config.guest.vmid == made.newid:
        return previous.config
    kind = made.source.kind if made.source is not None else want.making.kind
    guest = Guest(made.newid, kind, node, want.making.name, power.STOPPED, power.STOPPED, pool=want.making.pool)
    values: dict[str, str] = {}
    if made.source is not None:
        values = _copied(want, guest, _source_config(want, made.source, reader))
    elif want.origin == "archive":
        answer = reader.get(f"/nodes/{node}/vzdump/extractconfig", volume=want.fresh["archive"])
        values = _moved(guest, _lines(str(answer)), want.fresh.get("storage"))
    else:
        _check_node(node, reader)
    return config.foretold(_config_of(want, guest), reader, guest, values)


def _check_node(node: str, reader: Reader) -> None:
    nodes = {row["node"]: row.get("status") for row in reader.get("/nodes")}
    if node not in nodes:
        raise no_such_node(node, nodes)
    if nodes[node] == "offline":
        raise Refused(f"Node {node} is down; no guest can be made there.")


def _source_config(want: Wanted, source: Guest, reader: Reader) -> dict[str, str]:
    if want.making.snapname:
        answer = reader.get(f"{source.path}/snapshot/{want.making.snapname}/config")
    else:
        answer = reader.get(f"{source.path}/config", current=True)
    return {key: str(value) for key, value in answer.items()}


def _lines(text: str) -> dict[str, str]:
    """Return the options of a configuration file; what follows the current state is left out."""
    found: dict[str, str] = {}
    notes: list[str] = []
    for line in text.splitlines():
        if line.startswith("["):
            break
        key, colon, value = line.partition(":")
        if line.startswith("#"):
            notes += [] if line.startswith("#qmdump#") else [unquote(line[1:])]
        elif colon:
            found[key.strip()] = value.strip()
    return {**found, "description": "\n".join(notes)} if notes else found


def _copied(want: Wanted, guest: Guest, values: Mapping[str, str]) -> dict[str, str]:
    """Return what the configuration of a copy will be; MAC addresses and the numbers of volumes are the server's choice."""
    found = _moved(guest, values, want.making.storage)
    for key, text in found.items():
        if re.fullmatch(r"net\d+", key):
            form = properties_of(guest.kind, key)
            kept = {name: value for name, value in parse_properties(form, text).items() if name not in _MAC}
            found[key] = format_properties(form, kept)
    return found


def _moved(guest: Guest, values: Mapping[str, str], storage: object) -> dict[str, str]:
    """Return a configuration as the guest will have it that takes it over, with the volumes that it will most likely get."""
    found = {key: text for key, text in values.items() if not _NOT_COPIED.fullmatch(key)}
    for key, text in found.items():
        volume, comma, rest = text.partition(",")
        place, colon, name = volume.partition(":")
        owner = _VOLUME.fullmatch(name)
        if is_disk(guest.kind, key) and colon and owner is not None:
            last = f"{'subvol' if 'vol' in owner[2] else 'vm'}-{guest.vmid}-{owner[4]}"
            head = re.sub(rf"(^|/){owner[3]}/$", rf"\g<1>{guest.vmid}/", owner[1])
            found[key] = f"{storage or place}:{head}{last}{comma}{rest}"
    if guest.name is not None:
        found["hostname" if guest.kind == "lxc" else "name"] = guest.name
    return found


def _with_addresses(want: Wanted, now: Observed, reader: Reader, previous: Observed | None) -> Observed:
    """Add what the guest tells of its addresses, where that is wanted and nothing else is left to do.

    It is asked once it has nothing before it any more: an agent that does not answer is dear to the server.
    """
    guest, read = now.making.existing, now.config
    if want.wait_for == agent.NOTHING or guest is None or read is None or guest.status != power.RUNNING:
        return now
    before = previous.config if previous is not None else None
    last = previous.reached if previous is not None and guest.uptime >= (before or read).guest.uptime else None
    if last is not None and agent.missing(guest, last, want.wait_for)[0] is None:
        return replace(now, reached=last)
    stuck = before is not None and before.rows == read.rows and before.guest.status == guest.status
    quiet = replace(want, config=replace(want.config, reset_password=False))
    if not stuck and _steps(quiet, now, guest, read, ()).calls:
        return now
    if guest.kind == "qemu" and not hosts.agent_is_enabled(read.in_force):
        return now
    return replace(now, reached=agent.reach(reader, guest, read.in_force, want.liked))


# --- what to do ---


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the calls that are left: the making, the configuration, power, the template; or the deletion."""
    if want.state == "absent":
        return _remove(want, observed, done)
    guest = observed.guest
    if guest is None:
        return _make(want, observed)
    _check_kind(want, guest)
    clones = [call for call in done if call.path.endswith("/clone")]
    found = clone.decide(want.making, observed.making, clones)
    if guest.lock == "destroyed":
        return Plan(found.before, found.after, (), wait_for_lock(guest))
    read = observed.config
    if read is None or found.waiting is not None or found.calls:
        # A clone that is still being made or moved.
        return found
    if not read.rows:
        raise Refused(
            f"{guest} on node {guest.node} has an empty configuration; most likely it is the rest of a backup that could not be "
            "restored. Look at it and remove it with state=absent, or name the archive."
        )
    return _with_waiting(want, observed, _joined(found, _steps(want, observed, guest, read, _about(guest, done))))


def _about(guest: Guest, done: Sequence[Call]) -> tuple[Call, ...]:
    """Return the calls of this run that were about this guest."""
    return tuple(
        call for call in done if call.path.startswith(f"{guest.path}/") or call.params.get("vmid") == guest.vmid
    )


def _joined(first: Plan, then: Plan) -> Plan:
    return replace(
        then,
        before={**first.before, **then.before},
        after={**first.after, **then.after},
        calls=(*first.calls, *then.calls),
        waiting=first.waiting or then.waiting,
        warnings=(*first.warnings, *then.warnings),
    )


def _check_kind(want: Wanted, guest: Guest) -> None:
    if want.kind not in (None, guest.kind):
        raise Refused(
            f"VMID {guest.vmid} is taken: it is {guest} on node {guest.node}, called '{guest.name}', and a "
            f"{KINDS[str(want.kind)]} is wanted. Nothing was done to it."
        )


def _steps(want: Wanted, observed: Observed, guest: Guest, read: config.Observed, done: Sequence[Call]) -> Plan:
    """Return what is left for a guest that is there, or will be when it is made: configuration, power, template."""
    _check_unprivileged(want, guest, read)
    wish = _config_of(want, guest)
    switch = Plan()
    if want.power is not None:
        switch = power.decide(want.power, power.Observed(guest, observed.stopped_looks), done)
        switch = replace(switch, before={"power": switch.before["state"]}, after={"power": switch.after["state"]})
    if switch.calls and want.power is not None and want.power.state == power.STOPPED:
        # What is stopped anyway is configured afterwards, when nothing has to be plugged.
        at_rest = replace(read, guest=replace(read.guest, status=power.STOPPED))
        plan = _joined(switch, config.decide(wish, at_rest, done))
        plan = replace(plan, waiting=switch.waiting)
    else:
        plan = config.decide(wish, read, done)
        if plan.waiting is None or not plan.calls:
            plan = _joined(plan, replace(switch, waiting=None if plan.calls else switch.waiting))
    if want.state == "template":
        plan = _joined(plan, _convert(want, observed, guest, read))
    _check_agent(want, guest, read)
    return plan


def _check_unprivileged(want: Wanted, guest: Guest, read: config.Observed) -> None:
    if want.unprivileged is None:
        return
    if guest.kind != "lxc":
        raise Refused(f"unprivileged is for containers, and {guest} is none.")
    # One that has no configuration yet is made as it is wanted.
    if read.rows and is_true(read.to_come("unprivileged")) is not want.unprivileged:
        now = "privileged" if want.unprivileged else "unprivileged"
        raise Refused(f"{guest} on node {guest.node} is {now}, and the server cannot change that once it is made.")


def _convert(want: Wanted, observed: Observed, guest: Guest, read: config.Observed) -> Plan:
    before, after = {"template": guest.template}, {"template": True}
    task = observed.conversion
    if task is not None and _runs(task):
        return Plan(before, after, (), f"{guest} to become a template by {task['upid']}")
    if guest.template:
        return Plan(before, after, warnings=tuple(_told_of_conversion(want, observed, guest, read)))
    if guest.status != power.STOPPED and want.power is None:
        raise Refused(
            f"{guest} on node {guest.node} runs, and only a stopped guest can become a template; add power=stopped."
        )
    if read.to_come("parent") is not None:
        raise Refused(
            f"{guest} on node {guest.node} has snapshots, and what has some cannot become a template; remove them first."
        )
    call = Call(
        "POST",
        f"{guest.path}/template",
        {},
        f"make a template of {guest}",
        ("qmtemplate" if guest.kind == "qemu" else "vztemplate", str(guest.vmid)),
    )
    if task is not None and task["upid"] != observed.earlier and not succeeded(str(task["status"])):
        raise ProxmoxError(
            f"The server's task {task['upid']} was to make a template of {guest} and failed: {task['status']}. A volume that the "
            f"storage calls base-... by now has to be named so in /etc/pve/lxc/{guest.vmid}.conf.",
            upid=task["upid"],
        )
    return Plan(before, after, (call,))


def _told_of_conversion(want: Wanted, observed: Observed, guest: Guest, read: config.Observed) -> Iterator[str]:
    """Yield what is not as it should be with a template."""
    task = observed.conversion
    if task is not None and task["upid"] != observed.earlier:
        yield from task.get("warnings", ())
    for key in sorted(read.rows):
        volume, _comma, rest = (read.to_come(key) or "").partition(",")
        owner = _VOLUME.fullmatch(volume.partition(":")[2])
        if (
            is_disk(guest.kind, key)
            and owner is not None
            and owner[2] in ("vm", "subvol")
            and "media=cdrom" not in rest
        ):
            command = f"qm template {guest.vmid} --disk {key}" if guest.kind == "qemu" else None
            remedy = f" Where that was cut off, '{command}' on node {guest.node} makes one." if command else ""
            yield (
                f"{guest} is a template, and its disk {key} is no base image, so it has no linked clones. Not every storage can "
                f"make one.{remedy}"
            )


def _check_agent(want: Wanted, guest: Guest, read: config.Observed) -> None:
    """Refuse to wait for an agent that nobody would ask."""
    if want.wait_for == agent.NOTHING or guest.kind != "qemu":
        return
    wish = want.config.values.get("agent", read.to_come("agent"))
    if wish is None or not is_true(parse_properties(properties_of("qemu", "agent"), wish).get("enabled")):
        raise Refused(
            f"wait_for={want.wait_for} needs the guest agent, and it is not enabled in the configuration of {guest}; add agent: "
            "true, and see that qemu-guest-agent runs in the guest."
        )


def _with_waiting(want: Wanted, observed: Observed, plan: Plan) -> Plan:
    """Add the waiting for the guest's agent or address, where nothing else is left to do."""
    guest, read = observed.guest, observed.config
    if want.wait_for == agent.NOTHING or plan.calls or plan.waiting or guest is None or guest.status != power.RUNNING:
        return plan
    if guest.kind == "qemu" and read is not None and not hosts.agent_is_enabled(read.in_force):
        raise Refused(
            f"wait_for={want.wait_for} needs the guest agent, which is enabled for {guest} with its next start only; add reboot: "
            "if_required."
        )
    waiting, pause = agent.missing(guest, observed.reached, want.wait_for)
    return plan if waiting is None else replace(plan, waiting=waiting, pause=pause)


# --- making ---


def _make(want: Wanted, observed: Observed) -> Plan:
    """Return the making of the guest and everything that follows it."""
    made, read = observed.making, observed.config
    if want.origin == "clone":
        first = clone.decide(want.making, made, ())
        if read is None:
            return first
    else:
        if made.newid is None or read is None:
            raise Refused(
                f"{_called(want)} does not exist, or the credentials may not see it (VM.Audit on /vms/VMID), and the task does not "
                "say where to make it; name node, or a template in clone."
            )
        first = clone.made_by(want.making, made, (), read.guest.node)
    guest = read.guest
    rest = _steps(want, observed, guest, read, ())
    if want.origin != "clone":
        first, rest = (
            replace(first, calls=(_creation(want, observed, guest, rest),)),
            _without_first_write(want, guest, rest),
        )
    warnings = [*_password_warning(want, read)]
    return replace(
        _joined(first, replace(rest, before={}, warnings=(*rest.warnings, *warnings))), waiting=first.waiting
    )


def _called(want: Wanted) -> str:
    return f"Guest {want.making.vmid}" if want.making.vmid is not None else f"Guest '{want.making.name}'"


def _is_write(guest: Guest, call: Call) -> bool:
    return call.path == f"{guest.path}/config"


def _without_first_write(want: Wanted, guest: Guest, rest: Plan) -> Plan:
    """Return the plan without the writing of the configuration that the making of the guest contains."""
    if want.origin == "archive":
        return rest
    return replace(rest, calls=tuple(call for call in rest.calls if not _is_write(guest, call)))


def _creation(want: Wanted, observed: Observed, guest: Guest, rest: Plan) -> Call:
    """Return the one call that makes the guest of nothing, with its whole configuration, or of a backup."""
    write = next((call for call in rest.calls if _is_write(guest, call)), None)
    if write is None or want.origin == "archive":
        params, secret = {}, frozenset[str]()
    else:
        params = {key: value for key, value in write.params.items() if key not in ("digest", "delete", "force")}
        secret = write.secret
    fresh = {**want.fresh, **({"force": True} if observed.over else {})}
    if guest.kind == "lxc":
        if want.origin is None:
            raise Refused(
                f"{_called(want)} does not exist, and a container is made from a template of the system; name ostemplate."
            )
        if want.origin == "archive":
            fresh = {**fresh, "ostemplate": fresh["archive"], "restore": True}
            del fresh["archive"]
        else:
            fresh["unprivileged"] = want.unprivileged is not False
            if want.keys:
                fresh["ssh-public-keys"] = "\n".join(READ["ssh keys"](want.keys))
        params.pop("unprivileged", None)
    named = {} if guest.name is None else {"hostname" if guest.kind == "lxc" else "name": guest.name}
    pool = {} if want.making.pool is None else {"pool": want.making.pool}
    task = {"qemu": ("qmcreate", "qmrestore"), "lxc": ("vzcreate", "vzrestore")}[guest.kind][want.origin == "archive"]
    called = f" '{guest.name}'" if guest.name else ""
    return Call(
        "POST",
        f"/nodes/{guest.node}/{guest.kind}",
        {"vmid": guest.vmid, **named, **pool, **fresh, **params},
        f"{'restore' if want.origin == 'archive' else 'create'} {guest}{called} on node {guest.node}",
        # Another run may be making a guest under the next free VMID, so none is adopted by that.
        (task, str(guest.vmid)) if want.making.vmid is not None else None,
        secret | ({"password"} & fresh.keys()),
    )


def _password_warning(want: Wanted, read: config.Observed) -> list[str]:
    if "cipassword" in read.rows and "cipassword" in want.config.values and not want.config.reset_password:
        return [
            "What the guest is made from has a password of cloud-init already, which stays with update_password=on_create; use "
            "update_password=always once, or take it out of the template."
        ]
    return []


# --- deleting ---


def _observe_doomed(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guest that is to go, with its configuration and, of a template, what hangs on its disks."""
    made = _located(want, reader, previous)
    guest = made.existing
    if guest is None or guest.lock in MAKING or guest.lock == "destroyed":
        return Observed(made)
    plain = config.Wanted(GuestRef(guest.vmid, node=guest.node, kind=guest.kind))
    read = config.read(plain, reader, guest, None)
    looks = previous.stopped_looks if previous is not None else 0
    return Observed(
        replace(made, existing=read.guest),
        read,
        stopped_looks=looks + 1 if guest.status == power.STOPPED else 0,
        linked=_linked(reader, read) if guest.template and want.allow_template else None,
    )


def _located(want: Wanted, reader: Reader, previous: Observed | None) -> clone.Observed:
    """Return where the guest is. What was found once is looked for by its VMID: another guest of its name is another guest."""
    last = previous.guest if previous is not None else None
    vmid = last.vmid if last is not None else want.making.vmid
    guess = last
    if guess is None and vmid is not None and want.node is not None:
        guess = Guest(vmid, want.kind or "qemu", want.node)
    if guess is not None:
        try:
            there = look(reader, guess)
        except ProxmoxError as error:
            # What may be done to a guest is forgotten with it.
            if error.effect is not Effect.ABSENT and error.status not in (403, 595):
                raise
        else:
            return clone.Observed(existing=_held(reader, there, last))
    rows = every_guest(reader)
    if vmid is None:
        dying = [guest for guest in rows if guest.lock == "destroyed" and guest.name == want.making.name]
        found = dying[0] if dying else clone.find_wanted(want.making, reader, rows)
        if found is not None:
            return clone.Observed(existing=_held(reader, found, None))
        before = previous.making if previous is not None else None
        return clone.Observed(newcomers=clone.being_made_by_now(reader, rows, before))
    row = next((guest for guest in rows if guest.vmid == vmid), None)
    if row is not None:
        return clone.Observed(existing=observe_guest(reader, GuestRef(vmid, node=row.node, kind=row.kind), row))
    if vmid_is_taken(reader, vmid):
        raise Refused(f"Guest {vmid} exists, but the credentials may not see it; they need VM.Audit on /vms/{vmid}.")
    return clone.Observed()


def _held(reader: Reader, guest: Guest, last: Guest | None) -> Guest:
    """Return the guest with who holds its lock, where it is locked."""
    if guest.lock is None or guest.lock in RESTING_LOCKS:
        return guest
    return observe_guest(reader, GuestRef(guest.vmid, node=guest.node, kind=guest.kind), last or guest)


def _linked(reader: Reader, read: config.Observed) -> str | None:
    """Return a volume that is a linked clone of one of the template's, None where the server knows of none.

    Such a volume's name has its base's before it (PVE/Storage.pm, volume_is_base_and_used). Storages that do not name the
    base do not need it either.
    """
    bases: dict[str, list[str]] = {}
    for key in read.rows:
        text = read.to_come(key) or ""
        storage, colon, name = text.partition(",")[0].partition(":")
        if colon and is_disk(read.guest.kind, key) and _BASE.search(name):
            bases.setdefault(storage, []).append(name)
    for storage, names in sorted(bases.items()):
        for row in reader.get(f"/nodes/{read.guest.node}/storage/{storage}/content"):
            name = str(row["volid"]).partition(":")[2]
            if any(name.startswith(f"{base}/") for base in names):
                return str(row["volid"])
    return None


def _remove(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return what deletes the guest; Refused, before anything is done to it, where it must not be."""
    guest, read = observed.guest, observed.config
    gone: dict[str, object] = {"guest": None}
    if guest is None:
        return Plan(gone, gone, (), observed.making.newcomers.waiting(want.making.name))
    before = {"guest": {"vmid": guest.vmid, "node": guest.node, "name": guest.name}}
    if read is None:
        return Plan(before, gone, (_deletion(want, guest),), wait_for_lock(guest))
    _check_doomed(want, observed, guest, read)
    stop = power.decide(
        power.Wanted(GuestRef(), power.STOPPED, "now"), power.Observed(guest, observed.stopped_looks), done
    )
    waiting = stop.waiting
    if waiting is None and guest.lock is not None and guest.lock not in RESTING_LOCKS:
        waiting = wait_for_lock(guest)
    return Plan(before, gone, (*stop.calls, _deletion(want, guest)), waiting)


def _check_doomed(want: Wanted, observed: Observed, guest: Guest, read: config.Observed) -> None:
    where = f"{guest} on node {guest.node}"
    if want.making.name not in (None, guest.name):
        raise Refused(f"{where} is called '{guest.name}', not '{want.making.name}'; it was not deleted.")
    _check_kind(want, guest)
    if guest.template and not want.allow_template:
        raise Refused(f"{where} ('{guest.name}') is a template; to delete it all the same, set allow_template: true.")
    if observed.linked is not None:
        raise Refused(
            f"{where} ('{guest.name}') is a template that other guests hang on: {observed.linked} is a linked clone of one of its "
            "disks. Delete those guests first, or give them disks of their own."
        )
    if is_true(read.to_come("protection")):
        raise Refused(
            f"{where} ('{guest.name}') is protected against being deleted; to delete it all the same, take the protection away "
            "first (proxmox_vm_config with protection: false)."
        )
    if guest.status == power.RUNNING and not want.force:
        raise Refused(f"{where} ('{guest.name}') is running; to stop and delete it all the same, set force: true.")
    if guest.ha_state is not None and not want.purge:
        raise Refused(
            f"{where} ('{guest.name}') is managed by high availability; to take it out of there and of all jobs and delete it, set "
            "purge: true."
        )


def _deletion(want: Wanted, guest: Guest) -> Call:
    params = {"purge": want.purge, "destroy-unreferenced-disks": want.destroy_unreferenced_disks}
    return Call(
        "DELETE",
        guest.path,
        {key: value for key, value in params.items() if value},
        f"delete {guest}" + (f" '{guest.name}'" if guest.name else ""),
        ("qmdestroy" if guest.kind == "qemu" else "vzdestroy", str(guest.vmid)),
    )


# --- what is told ---


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest, its configuration, what waits for a restart, and its addresses, as observed."""
    told: dict[str, object] = {"guest": None}
    if observed.guest is not None:
        told["guest"] = observed.guest.shown()
        if observed.config is not None and want.state != "absent":
            told = dict(config.result(_config_of(want, observed.guest), observed.config))
    if want.wait_for != agent.NOTHING:
        reached = observed.reached or agent.Reached()
        told.update(ip=reached.ip, addresses=list(reached.addresses))
    return told


FEATURE = Feature(wanted, observe, decide, result)
