# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration: each option of a guest as it is wanted, merged into what is there and compared by meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .drives import WORDS, is_cloudinit, settle_disk, slot
from .errors import Effect, ProxmoxError, Refused
from .guests import (
    LOOKS_BEFORE_START,
    RESTING_LOCKS,
    Guest,
    GuestRef,
    checked_name,
    checked_vmid,
    every_guest,
    keeps_case,
    wait_for_lock,
)
from .guests import observe as observe_guest
from .hotplug import CLOUDINIT, is_live
from .options import (
    LIMITS,
    OPTIONS,
    READ,
    WRITE,
    Change,
    Option,
    Scalar,
    check_spelling,
    find_option,
    is_disk,
    is_empty,
    properties_of,
    removal,
    settle,
)
from .plan import Call, Feature, Pace, Plan, Reader
from .wire import format_size, is_true, parse_properties, parse_tags, words

# Module options that are options of the configuration, under the same name.
TYPED = words(
    "agent balloon bios boot cicustom cipassword citype ciupgrade ciuser cores cpu cpulimit cpuunits description features "
    "hotplug machine memory nameserver numa onboot ostype protection scsihw searchdomain sockets sshkeys startup swap tags "
    "timezone tty vga"
)

# Module options that are dictionaries of options of the configuration, and what their keys look like.
GROUPS: Mapping[str, re.Pattern[str]] = {
    "net": re.compile(r"^net\d+$"),
    "disks": re.compile(r"^((ide|sata|scsi|virtio|mp)\d+|efidisk0|tpmstate0|rootfs)$"),
    "ipconfig": re.compile(r"^ipconfig\d+$"),
    "serial": re.compile(r"^serial\d+$"),
}

# Other names of options.
_SYNONYMS = {"hostname": "name", "cdrom": "ide2"}

# Parameters that say how the request works, not what the guest is like.
_CONTROLS = frozenset(
    {"background_delay", "delete", "digest", "force", "node", "revert", "skip_cloud_init", "skiplock", "vmid"}
)

_SECRET = frozenset({"cipassword"})

_PLURALS = {"qemu": "VMs", "lxc": "containers"}


@dataclass(frozen=True)
class Wanted:
    """What the play's task wants.

    :param values: option -> a person's value, an empty one for removal. :param absent: options to remove.
    :param destroy: whether removed disks are destroyed. :param pool: empty for none, None for whatever it is.
    :param reset_password: whether to set the cloud-init password although there is one.
    :param reboot: whether to reboot a running guest for what waits for that.
    """

    guest: GuestRef
    values: Mapping[str, Any] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    destroy: bool = False
    pool: str | None = None
    reset_password: bool = False
    reboot: bool = False


@dataclass(frozen=True)
class Row:
    """An option as the server has it. :param value: in force. :param pending: to come. :param delete: to go."""

    value: str | None = None
    pending: str | None = None
    delete: bool = False

    @property
    def waits(self) -> bool:
        return self.pending is not None or self.delete

    @property
    def to_come(self) -> str | None:
        return self.pending if self.pending is not None else None if self.delete else self.value


@dataclass(frozen=True)
class Observed:
    """What was found.

    :param rows: the configuration, with what waits for a restart. :param digest: of it.
    :param keep_case: whether the datacenter keeps upper case in tags; None where nobody needed to ask.
    :param stopped_looks: looks in a row at which it was stopped after a reboot, this one included.
    """

    guest: Guest
    rows: Mapping[str, Row]
    digest: str
    keep_case: bool | None = None
    stopped_looks: int = 0

    @property
    def waiting(self) -> dict[str, Row]:
        return {key: row for key, row in self.rows.items() if row.waits}

    @property
    def running(self) -> bool:
        return self.guest.status == "running"

    @property
    def in_force(self) -> dict[str, str]:
        return {key: row.value for key, row in self.rows.items() if row.value is not None}

    def to_come(self, key: str) -> str | None:
        return self.rows[key].to_come if key in self.rows else None


# --- what is wanted ---


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for; Refused where they contradict each other."""
    vmid, name = checked_vmid(options.get("vmid")), options.get("name")
    values: dict[str, Any] = {}
    for key, value in _named(options):
        if key in values:
            raise Refused(f"'{key}' is named twice; name it once, in its own option or in options.")
        values[key] = value
    absent = frozenset(_SYNONYMS.get(key, key) for key in options.get("absent") or ())
    both = sorted(absent & set(values))
    if both:
        raise Refused(f"{', '.join(both)}: wanted and in absent at the same time.")
    for key, value in values.items():
        check_spelling(key, value, WORDS if any(is_disk(kind, key) for kind in OPTIONS) else ())
    _check_tags(values.get("tags"))
    return Wanted(
        guest=GuestRef(vmid, None if vmid is not None else name, options.get("node"), options.get("type")),
        values=values,
        absent=absent,
        destroy=bool(options.get("destroy_disks")),
        pool=options.get("pool"),
        reset_password=options.get("update_password") == "always",
        reboot=options.get("reboot") == "if_required",
    )


def _check_tags(tags: object) -> None:
    """Refuse a blank inside an entry, which the server would take for the end of a tag; semicolons and commas are meant so."""
    for entry in tags if isinstance(tags, list) else ():
        for tag in re.split("[;,]", str(entry)):
            if re.search(r"\s", tag.strip()):
                raise Refused(
                    f"'{tag.strip()}' cannot be a tag: it holds a blank. Where several tags are meant, give each an entry of its "
                    "own."
                )


def _named(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every option of the configuration that the task names."""
    if options.get("vmid") is not None and options.get("name"):
        yield "name", checked_name(options["name"])
    for key in TYPED:
        if options.get(key) is not None:
            yield key, options[key]
    for group, pattern in GROUPS.items():
        for key, value in (options.get(group) or {}).items():
            if not pattern.match(str(key)):
                raise Refused(f"'{key}' is no key of {group}.")
            if value is not None:
                yield str(key), value
    for key, value in (options.get("options") or {}).items():
        if key in _CONTROLS:
            raise Refused(f"'{key}' in options is a parameter of the request, not an option of the guest.")
        if key in _SECRET:
            raise Refused(f"'{key}' in options would be seen in logs; use the module's own option {key}.")
        if value is not None:
            yield _SYNONYMS.get(str(key), str(key)), value


# --- what there is ---


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guest and its configuration: status once, then only the configuration, unless a reboot is under way."""
    last = previous.guest if previous is not None else None
    if previous is None or last is None or (want.reboot and (previous.waiting or previous.stopped_looks)):
        guest = observe_guest(reader, want.guest, last)
    else:
        guest = last
    try:
        return read(want, reader, guest, previous)
    except ProxmoxError as error:
        if error.effect is not Effect.ABSENT:
            raise
        return read(want, reader, observe_guest(reader, want.guest, guest), previous)


def read(want: Wanted, reader: Reader, guest: Guest, previous: Observed | None) -> Observed:
    """Return the configuration of a guest that was just looked at, or that is the one of the previous look."""
    last = previous.guest if previous is not None else None
    rows, digest = _pending(reader, guest)
    guest = _renewed(reader, want, guest, rows, seen=guest is not last)
    looks = previous.stopped_looks if previous is not None else 0
    return Observed(
        guest,
        rows,
        digest,
        keep_case=_keep_case(reader, want, rows, previous),
        stopped_looks=looks + 1 if previous is not None and guest is not last and guest.status == "stopped" else 0,
    )


def foretold(want: Wanted, reader: Reader, guest: Guest, values: Mapping[str, str]) -> Observed:
    """Return the configuration that a guest will have which is still to be made, so that what is left then can be foretold."""
    rows = {key: Row(text) for key, text in values.items()}
    return Observed(guest, rows, "", keep_case=_keep_case(reader, want, rows, None))


def _pending(reader: Reader, guest: Guest) -> tuple[dict[str, Row], str]:
    """Return the configuration with what is pending, and its digest."""
    rows = {
        str(row["key"]): Row(
            _optional(row.get("value")), _optional(row.get("pending")), bool(int(row.get("delete") or 0))
        )
        for row in reader.get(f"{guest.path}/pending")
    }
    digest = rows.pop("digest", Row())
    return rows, digest.value or ""


def _optional(value: object) -> str | None:
    return None if value is None else str(value)


def _renewed(reader: Reader, want: Wanted, guest: Guest, rows: Mapping[str, Row], *, seen: bool) -> Guest:
    """Return the guest with what its configuration tells, which does not lag; of a locked one, with who holds the lock."""

    def value(key: str) -> str | None:
        return rows[key].value if key in rows else None

    lock = value("lock")
    if lock is not None and not seen:
        guest = observe_guest(reader, want.guest, guest)
    if want.pool is not None and (guest.pool or "") != want.pool:
        pools = {other.vmid: other.pool for other in every_guest(reader)}
        if want.pool and pools.get(guest.vmid) is None:
            _refuse_unseen_pool(reader, want.pool)
        guest = replace(guest, pool=pools.get(guest.vmid))
    return replace(
        guest,
        name=value("name" if guest.kind == "qemu" else "hostname") or guest.name,
        tags=parse_tags(value("tags")),
        template=is_true(value("template")),
        lock=lock,
    )


def _refuse_unseen_pool(reader: Reader, pool: str) -> None:
    """Raise Refused where nobody could see that the guest is in the pool already: it would be put there on every run."""
    path = f"/pool/{pool}"
    rights: Mapping[str, Mapping[str, object]] = reader.get("/access/permissions", path=path)
    if "Pool.Audit" not in rights.get(path, {}):
        raise Refused(f"The credentials may not see who is in pool '{pool}'; they need Pool.Audit on {path}.")


def _keep_case(reader: Reader, want: Wanted, rows: Mapping[str, Row], previous: Observed | None) -> bool | None:
    """Return whether tags keep their case; asked only where upper case is wanted and not there."""
    if previous is not None and previous.keep_case is not None:
        return previous.keep_case
    tags = set(READ["tags"](want.values.get("tags")))
    if tags <= {tag.lower() for tag in tags} | set(READ["tags"](rows["tags"].to_come if "tags" in rows else None)):
        return None
    return keeps_case(reader)


# --- what to do ---


@dataclass(frozen=True)
class _Step:
    """What becomes of one option. :param name: as people call it. :param key: as the server does. :param grow: bytes."""

    name: str
    key: str
    change: Change
    grow: int | None = None


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the calls that are left: growing disks, one write, pool, cloud-init drive, reboot."""
    guest = observed.guest
    steps = [*_wishes(want, observed, done), *_removals(want, observed)]
    _check_boot(want, observed)
    pool = _pool_now(want, guest)
    calls = [
        *_resizes(
            observed, [step for step in steps if step.grow is not None and observed.to_come(step.key) is not None]
        ),
        *_writes(want, observed, steps),
        *_resizes(observed, [step for step in steps if step.grow is not None and observed.to_come(step.key) is None]),
        *_pool(want, guest, pool),
    ]
    reboot, waiting = _reboot(want, observed, steps, done)
    if not reboot:
        calls += _cloudinit(observed, steps, done)
    calls += reboot
    before = {step.name: step.change.before for step in steps}
    after = {step.name: step.change.after for step in steps}
    if want.pool is not None:
        before["pool"], after["pool"] = pool, want.pool or None
    if calls and guest.lock is not None:
        if guest.lock in RESTING_LOCKS:
            raise Refused(
                f"{guest} on node {guest.node} is hibernated and cannot be configured; start it first, for example with "
                "proxmox_vm_power state=started."
            )
        waiting = wait_for_lock(guest)
    return Plan(before, after, tuple(calls), waiting, tuple(_warnings(want, observed, done)))


def _key(kind: str, name: str) -> str:
    return "hostname" if kind == "lxc" and name == "name" else name


def _option(guest: Guest, name: str) -> Option:
    """Return what the option holds; Refused where this kind of guest has none of this name."""
    key = _key(guest.kind, name)
    option = find_option(guest.kind, key)
    if option is not None:
        return option
    family = re.sub(r"\d+$", "", key)
    limit = LIMITS[guest.kind].get(family)
    if limit is not None and family != key:
        raise Refused(f"'{name}': {_PLURALS[guest.kind]} have {family}0 to {family}{limit - 1}.")
    other = "lxc" if guest.kind == "qemu" else "qemu"
    if find_option(other, _key(other, name)) is not None:
        raise Refused(f"'{name}' is an option of {_PLURALS[other]}, and {guest} is none of them.")
    if any(pattern.match(name) for pattern in GROUPS.values()):
        raise Refused(f"'{name}': {guest} has no such slot.")
    # Newer servers know options that these tables do not; the server says whether it does.
    return Scalar("text")


def _wishes(want: Wanted, observed: Observed, done: Sequence[Call]) -> Iterator[_Step]:
    guest = observed.guest
    unused = {
        key: text.partition(",")[0]
        for key in observed.rows
        if key.startswith("unused") and (text := observed.to_come(key)) is not None
    }
    for name, value in sorted(want.values.items()):
        option, key = _option(guest, name), _key(guest.kind, name)
        present = observed.to_come(key)
        try:
            if key == "cipassword":
                yield _Step(name, key, _password(want, present, value, done))
            elif is_disk(guest.kind, key):
                here = slot(guest.kind, key, present, observed.in_force.get(key))
                yield _Step(name, key, *settle_disk(str(guest), guest.kind, here, value, unused))
            elif key == "tags" and not observed.keep_case:
                yield _Step(name, key, settle(option, key, present, [tag.lower() for tag in READ["tags"](value)]))
            else:
                yield _Step(name, key, settle(option, key, present, value))
        except ValueError as error:
            raise Refused(f"{name} of {guest}: {error}.") from error


def _password(want: Wanted, present: str | None, value: object, done: Sequence[Call]) -> Change:
    """Return what becomes of the password, which nobody can read: whether there is one is all there is to compare."""
    if is_empty(value):
        return Change(present is not None, False, removes=present is not None)
    set_already = present is not None and not want.reset_password
    if set_already or any("cipassword" in call.params for call in done):
        return Change(present is not None, True)
    return Change(present is not None, True, str(value))


def _removals(want: Wanted, observed: Observed) -> Iterator[_Step]:
    for name in sorted(want.absent):
        key = _key(observed.guest.kind, name)
        if want.destroy and observed.guest.kind == "lxc" and is_disk("lxc", key):
            raise Refused(
                f"destroy_disks is for VMs, and {observed.guest} is a container; remove {key}, and then the unused disk that it "
                "becomes."
            )
        option = find_option(observed.guest.kind, key) or Scalar("text")
        present = observed.to_come(key)
        if key == "cipassword":
            yield _Step(name, key, Change(present is not None, False, removes=present is not None))
        else:
            yield _Step(name, key, removal(option, present))


def _check_boot(want: Wanted, observed: Observed) -> None:
    """Refuse a boot order with a device that is not there; the server would, after it has written other options."""
    order = READ["boot"](want.values.get("boot"))
    there = {key for key in observed.rows if observed.to_come(key) is not None} | set(want.values)
    missing = [
        device for device in order if re.search(r"\d$", device) and (device not in there or device in want.absent)
    ]
    if missing:
        raise Refused(f"boot names {', '.join(missing)}, and {observed.guest} has no such device.")


def _resizes(observed: Observed, steps: Sequence[_Step]) -> Iterator[Call]:
    guest = observed.guest
    for step in steps:
        size = format_size(step.grow or 0)
        params = {"disk": step.key, "size": size, "digest": observed.digest}
        yield Call(
            "PUT", f"{guest.path}/resize", params, f"grow {step.key} of {guest} to {size}", ("resize", str(guest.vmid))
        )


def _writes(want: Wanted, observed: Observed, steps: Sequence[_Step]) -> Iterator[Call]:
    """Yield the one write, and a second one where the first would spoil the boot order that is wanted."""
    news = {step.key: step.change.value for step in steps if step.change.value is not None}
    gone = sorted(step.key for step in steps if step.change.removes)
    late = _late_boot(want, observed, news, gone)
    if late is not None:
        news.pop("boot", None)
    if news or gone:
        yield _write(want, observed, news, gone)
    if late:
        yield _write(want, observed, {"boot": late}, [])


def _write(want: Wanted, observed: Observed, news: Mapping[str, Any], gone: Sequence[str]) -> Call:
    guest = observed.guest
    params: dict[str, object] = dict(sorted(news.items()))
    if gone:
        params["delete"] = ",".join(gone)
    if want.destroy and any(is_disk(guest.kind, key) for key in gone):
        params["force"] = True
    told = [*sorted(news), *(f"remove {key}" for key in gone)]
    params["digest"] = observed.digest
    # The write of a VM is a task of its own, so that no proxy cuts it off; a container's is not.
    method, task = ("POST", ("qmconfig", str(guest.vmid))) if guest.kind == "qemu" else ("PUT", None)
    return Call(
        method, f"{guest.path}/config", params, f"configure {guest}: {', '.join(told)}", task, _SECRET & set(params)
    )


def _late_boot(want: Wanted, observed: Observed, news: Mapping[str, Any], gone: Sequence[str]) -> str | None:
    """Return the boot order to write after a write that adds CD drives, for the server appends those to the order.

    None where the order can be written with the rest, empty where none has to be (PVE/API2/Qemu.pm, update_vm_api).
    """
    value = want.values.get("boot")
    order, new = _boot_afterwards(observed, news, gone)
    if value is None or is_empty(value) or not new:
        return None
    wish = READ["boot"](value)
    return "" if wish == (*order, *new) else str(WRITE["boot"](wish))


def _boot_afterwards(
    observed: Observed, news: Mapping[str, Any], gone: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a write leaves of the boot order, and the CD drives that the server appends to it."""
    if observed.guest.kind != "qemu" or not observed.in_force.get("boot", "").startswith("order="):
        return (), ()
    order = tuple(device for device in READ["boot"](observed.in_force["boot"]) if device not in gone)
    drives = (key for key in sorted(news) if is_disk("qemu", key) and key not in order)
    return order, tuple(key for key in drives if _is_cd(key, str(news[key]))) if order else ()


def _is_cd(key: str, text: str) -> bool:
    found = parse_properties(properties_of("qemu", key), text)
    return found.get("media") == "cdrom" and not is_cloudinit(found.get("file", ""))


def _pool_now(want: Wanted, guest: Guest) -> str | None:
    return guest.pool if want.pool is not None else None


def _pool(want: Wanted, guest: Guest, present: str | None) -> Iterator[Call]:
    if want.pool is None or (present or "") == want.pool:
        return
    if want.pool:
        params: dict[str, object] = {"poolid": want.pool, "vms": str(guest.vmid), "allow-move": True}
        yield Call("PUT", "/pools", params, f"put {guest} into pool {want.pool}")
    else:
        params = {"poolid": present, "vms": str(guest.vmid), "delete": True}
        yield Call("PUT", "/pools", params, f"take {guest} out of pool {present}")


def _cloudinit(observed: Observed, steps: Sequence[_Step], done: Sequence[Call]) -> Iterator[Call]:
    """Yield the making of a new cloud-init drive, where a running VM has one and its settings change in this run."""
    guest, config = observed.guest, observed.in_force
    path = f"{guest.path}/cloudinit"
    drives = (key for key, text in config.items() if is_disk(guest.kind, key) and is_cloudinit(text.partition(",")[0]))
    if guest.kind != "qemu" or not observed.running or "cloudinit" in config.get("hotplug", "") or not any(drives):
        return
    # A start has made a new one.
    starts = [place for place, call in enumerate(done, 1) if call.path.endswith(("/status/start", "/status/reboot"))]
    done = done[max(starts, default=0) :]
    before = [key for call in done for key in (*call.params, *str(call.params.get("delete", "")).split(","))]
    now = [step.key for step in steps if step.change.changes]
    if any(call.path == path for call in done) and not any(CLOUDINIT.match(key) for key in now):
        return
    if any(CLOUDINIT.match(key) for key in (*before, *now)):
        yield Call("PUT", path, {}, f"make a new cloud-init drive for {guest}")


def _reboot(
    want: Wanted, observed: Observed, steps: Sequence[_Step], done: Sequence[Call]
) -> tuple[list[Call], str | None]:
    """Return the reboot that is left, or what to wait for when it is under way."""
    guest = observed.guest
    if not want.reboot:
        return [], None
    task = ("qm", "vz")[guest.kind == "lxc"]
    if any(call.path == f"{guest.path}/status/reboot" for call in done):
        if guest.status != "stopped":
            return [], None
        if observed.stopped_looks < LOOKS_BEFORE_START:
            return [], f"{guest} to come back after its reboot"
        started = "hastart" if guest.ha_state is not None else f"{task}start"
        return [Call("POST", f"{guest.path}/status/start", {}, f"start {guest}", (started, str(guest.vmid)))], None
    if not observed.running or not _will_wait(observed, steps):
        return [], None
    return [
        Call("POST", f"{guest.path}/status/reboot", {}, f"reboot {guest}", (f"{task}reboot", str(guest.vmid)))
    ], None


def _will_wait(observed: Observed, steps: Sequence[_Step]) -> bool:
    """Tell whether something waits for a restart, or will when the changes are made."""
    kind, config = observed.guest.kind, observed.in_force
    changing = [step for step in steps if step.change.changes]
    gone = [step.key for step in changing if step.change.removes]
    news = {step.key: step.change.value for step in changing if step.change.value is not None}
    if set(observed.waiting) - {step.key for step in changing}:
        return True
    _order, appended = _boot_afterwards(observed, news, gone)
    if appended or any(key in READ["boot"](config.get("boot")) for key in gone):
        return True
    return any(
        not is_live(kind, key, config.get(key), _sent(news[key]) if key in news else None, config)
        for key in (*news, *gone)
    )


def _sent(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _warnings(want: Wanted, observed: Observed, done: Sequence[Call]) -> Iterator[str]:
    guest = observed.guest
    for name in sorted(want.absent):
        key = _key(guest.kind, name)
        if find_option(guest.kind, key) is None and key not in observed.rows:
            yield f"absent names '{name}', which is not set and no option that is known of {_PLURALS[guest.kind]}."
    if any(call.path.endswith("/status/reboot") for call in done) and observed.running and observed.waiting:
        yield f"{guest} was rebooted, and this waits still: {', '.join(sorted(observed.waiting))}."


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest, its configuration and what waits for a restart, as observed."""
    guest = observed.guest
    pending = {
        key: {"current": row.value, "pending": row.pending, "delete": row.delete}
        for key, row in sorted(observed.waiting.items())
    }
    config = {key: observed.to_come(key) for key in sorted(set(observed.rows) - _SECRET)}
    return {
        "guest": guest.shown(),
        "config": {key: text for key, text in config.items() if text is not None},
        "pending": pending,
        "reboot_required": bool(pending) and observed.running,
    }


# As many as the server itself works on at a time on a node (datacenter.cfg, max_workers), where three workers check and write.
FEATURE = Feature(wanted, observe, decide, result, Pace(per_node=4))
