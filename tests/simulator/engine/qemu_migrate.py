# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration of a VM to another node.

Sources: qemu-server, PVE/API2/Qemu.pm (migrate_vm_precondition, migrate_vm) and PVE/QemuMigrate.pm; pve-guest-common,
PVE/AbstractMigrate.pm.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .clock import Interrupted, Sleep, Steps
from .copying import finish_mirror, human, mirror_data, send_data
from .guests import is_cdrom, is_cloudinit, is_drive, is_unused
from .http import ApiError, bad_parameters, die
from .model import GIB, Config, Guest, Volume
from .propstring import parse_drive, parse_size, show_drive, split_list
from .qemu_disks import check_lock
from .qemu_status import memory
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

MOVABLE = ("dir", "btrfs", "zfspool", "lvmthin", "lvm")


@dataclass
class Seen:
    """How a configuration refers to a volume (foreach_volid)."""

    volid: str
    cdrom: bool = False
    is_attached: bool = False
    is_cloudinit: bool = False
    is_tpmstate: bool = False
    is_unused: bool = False
    is_vmstate: bool = False
    replicate: bool = True
    shared: bool = False
    drivename: str | None = None
    snapshots: set[str] = field(default_factory=set)
    pending: bool = False
    size: int | None = None

    @property
    def mirrored(self) -> bool:
        """Whether a running VM takes it along while it runs; generated volumes are copied before."""
        return self.is_attached and not (self.is_cloudinit or self.is_tpmstate)


def volumes(guest: Guest) -> dict[str, Seen]:
    """Every volume that the configuration, its pending part and its snapshots name."""
    seen: dict[str, Seen] = {}

    def note(config: Config, *, snapshot: str | None = None, pending: bool = False) -> None:
        for option in sorted(config):
            unused = is_unused(option)
            if not is_drive(option) and not unused and option != "vmstate":
                continue
            drive = parse_drive(option, config[option]) if is_drive(option) else {"file": config[option]}
            entry = seen.setdefault(drive["file"], Seen(drive["file"], cdrom=is_cdrom(drive)))
            entry.replicate = drive.get("replicate", "1") == "1"
            entry.shared = entry.shared or drive.get("shared") == "1"
            entry.is_cloudinit = entry.is_cloudinit or is_cloudinit(drive)
            entry.is_vmstate = entry.is_vmstate or option == "vmstate"
            entry.is_unused = entry.is_unused or unused
            if snapshot:
                entry.snapshots.add(snapshot)
            elif pending:
                entry.pending = True
            elif not unused:
                entry.is_attached = option != "vmstate"
                entry.is_tpmstate = entry.is_tpmstate or option == "tpmstate0"
                entry.drivename = option
                if "size" in drive:
                    entry.size = parse_size(drive["size"])

    note(guest.config)
    note(guest.pending, pending=True)
    for name, config in guest.snapshots.items():
        note(config, snapshot=name)
    return seen


def local_resources(guest: Guest) -> list[str]:
    """Devices of the node that the VM uses (check_local_resources)."""
    found = []
    for option, value in sorted(guest.config.items()):
        device = value.split(",")[0].removeprefix("host=")
        usb = re.fullmatch(r"usb\d+", option) and device.lower() != "spice"
        serial = re.fullmatch(r"serial\d+", option) and value != "socket"
        if usb or serial or re.fullmatch(r"hostpci\d+|parallel\d+|ivshmem", option):
            found.append(option)
    return found


def _is_local(cluster: Cluster, entry: Seen) -> bool:
    if ":" in entry.volid:
        storage = cluster.storages.all.get(split_volid(entry.volid)[0])
        if storage is not None and storage.shared:
            return False
    return not entry.shared and not (entry.cdrom and entry.volid == "none")


def preconditions(call: Call) -> dict[str, Any]:
    """GET .../migrate."""
    cluster, node = call.cluster, call.node
    cluster.need_quorum()
    guest = cluster.guest("qemu", node, call.vmid)
    check_lock(guest)
    not_allowed: dict[str, dict[str, Any]] = {}
    allowed: list[str] = []
    for name in cluster.nodes:
        if name == node:
            continue
        missing = unavailable_storages(cluster, guest, name)
        not_allowed[name] = {"unavailable_storages": missing} if missing else {}
        if not not_allowed[name]:
            allowed.append(name)
    disks = []
    for entry in volumes(guest).values():
        if not _is_local(cluster, entry):
            continue
        row: dict[str, Any] = {
            "volid": entry.volid,
            "cdrom": int(entry.cdrom),
            "is_attached": int(entry.is_attached),
            "is_cloudinit": int(entry.is_cloudinit),
            "is_tpmstate": int(entry.is_tpmstate),
            "is_unused": int(entry.is_unused),
            "is_vmstate": int(entry.is_vmstate),
            "replicate": int(entry.replicate),
            "shared": int(entry.shared),
        }
        if entry.drivename:
            row["drivename"] = entry.drivename
        if entry.size is not None:
            row["size"] = entry.size
        if entry.snapshots:
            row["referenced_in_snapshot"] = dict.fromkeys(sorted(entry.snapshots), 1)
        disks.append(row)
    result: dict[str, Any] = {
        "running": int(guest.running),
        "allowed_nodes": allowed,
        "not_allowed_nodes": not_allowed,
        "local_disks": disks,
        "local_resources": local_resources(guest),
        "mapped-resources": [],
        "mapped-resource-info": {},
        "has-dbus-vmstate": 1,
    }
    if cluster.ha_managed(guest.vmid):
        result["dependent-ha-resources"] = []
    return result


def unavailable_storages(cluster: Cluster, guest: Guest, node: str) -> list[str]:
    """The storages of the VM that another node does not have."""
    names = {split_volid(entry.volid)[0] for entry in volumes(guest).values() if ":" in entry.volid}
    missing = []
    for name in sorted(names):
        storage = cluster.storages.all.get(name)
        if storage is not None and (not storage.enabled or (storage.nodes is not None and node not in storage.nodes)):
            missing.append(name)
    return missing


def parse_map(text: str) -> tuple[str | None, dict[str, str]]:
    """Default and single entries of `1`, `sid` or `a:b,c:d` (parse_idmap); the default `1` means the same names."""
    default, entries = None, {}
    for part in split_list(text):
        source, colon, target = part.partition(":")
        if colon:
            entries[source] = target
        else:
            default = part
    return default, entries


def migrate(call: Call) -> str:
    """POST .../migrate."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    target = params["target"]
    if target == node:
        raise bad_parameters({"target": "target is local node."})
    cluster.need_quorum()
    cluster.need_node(target)
    call.root_only("force", "migration_type", "migration_network")
    guest = cluster.guest("qemu", node, vmid)
    check_lock(guest)
    if guest.running and not params.get("online"):
        raise die("can't migrate running VM without --online")
    mapping: dict[str, str] = {}
    default = None
    if params.get("targetstorage"):
        default, mapping = parse_map(params["targetstorage"])
        if default != "1":
            cluster.access.check_guest(call.authid, vmid, None, ["VM.Config.Disk"])
        for name in [*mapping.values(), *([default] if default and default != "1" else [])]:
            _check_target_storage(call, name, target)
    if not params.get("targetstorage") or default == "1":
        missing = unavailable_storages(cluster, guest, target)
        if missing:
            raise die(f"storage '{missing[0]}' is not available on node '{target}'")
    if cluster.ha_managed(vmid):
        return str(cluster.ha.queue(call, "hamigrate", "migration"))
    names = _Names(default if default != "1" else None, mapping)

    def body(task: Task) -> Steps[None]:
        lock = cluster.lock(node, f"/var/lock/pve-manager/pve-migrate-{vmid}")
        with (yield from lock.acquire(10.0, log=task.log)):
            yield from _Migration(call, task, names).run()

    return call.task("qmigrate", vmid, body)


def _check_target_storage(call: Call, name: str, target: str) -> None:
    call.check(f"/storage/{name}", "Datastore.AllocateSpace")
    storage = call.cluster.storages.enabled(name)
    call.cluster.storages.enabled(name, target)
    if "images" not in storage.content:
        raise bad_parameters({"targetstorage": f"storage '{name}' does not support vm images"})


@dataclass(frozen=True)
class _Names:
    """Which storage on the target stands for one on the source."""

    default: str | None
    entries: Mapping[str, str]

    def of(self, name: str) -> str:
        return self.entries.get(name) or self.default or name


class _Migration:
    """One migration under way."""

    def __init__(self, call: Call, task: Task, names: _Names) -> None:
        self.cluster: Cluster = call.cluster
        self.task, self.names = task, names
        self.source, self.target, self.vmid = call.node, str(call.params["target"]), call.vmid
        self.params = call.params
        self.began = call.cluster.now
        self.local: dict[str, Seen] = {}
        self.moved: dict[str, str] = {}  # volume here -> volume there

    def say(self, text: str, level: str = "") -> None:
        """A line with the time."""
        self.task.log(f"{self.cluster.stamp()} {level}{text}")

    def _duration(self) -> str:
        return time.strftime("%H:%M:%S", time.gmtime(int(self.cluster.now - self.began)))

    def run(self) -> Steps[None]:
        """The whole of it. Raises ApiError."""
        cluster = self.cluster
        with (yield from cluster.lock_config(self.source, self.vmid, self.task.log)):
            try:
                guest = self._prepare()
                yield Sleep(cluster.durations.migrate_setup)
                node = cluster.nodes[self.target]
                self.say(f"starting migration of VM {self.vmid} to node '{node.name}' ({node.ip})")
                yield from self._phase1(guest)
            except (ApiError, Interrupted) as error:
                text = "received interrupt" if isinstance(error, Interrupted) else error.text
                self.say(f"migration aborted (duration {self._duration()}): {text}", "ERROR: ")
                raise die("migration aborted") from None
            if guest.running:
                try:
                    yield from self._phase2(guest)
                except (ApiError, Interrupted) as error:
                    text = "interrupted by signal" if isinstance(error, Interrupted) else error.text
                    self.say(f"online migrate failure - {text}", "ERROR: ")
                    yield from self._cleanup(guest, 2)
                    self.say(f"migration finished with problems (duration {self._duration()})", "ERROR: ")
                    raise die("migration problems") from None
            yield from self._phase3(guest)
        self.say(f"migration finished successfully (duration {self._duration()})")

    def _prepare(self) -> Guest:
        guest = self.cluster.guest("qemu", self.source, self.vmid)
        check_lock(guest)
        if guest.running:
            if not self.params.get("online"):
                raise die("can't migrate running VM without --online")
            if not self.params.get("with-conntrack-state"):
                text = "conntrack state migration not supported or disabled, active connections might get dropped"
                self.say(text)
        devices = local_resources(guest)
        if devices:
            raise die(f"can't migrate VM which uses local devices: {', '.join(devices)}")
        for entry in volumes(guest).values():
            if ":" in entry.volid:
                name = split_volid(entry.volid)[0]
                storage = self.cluster.storages.enabled(name, self.source)
                self.cluster.storages.enabled(name if storage.shared else self.names.of(name), self.target)
        if not self.cluster.nodes[self.target].online:
            raise die("Can't connect to destination address using public key")
        return guest

    def _phase1(self, guest: Guest) -> Steps[None]:
        cluster = self.cluster
        guest.config["lock"] = "migrate"
        cluster.write(guest)
        try:
            self._scan(guest)
            offline = [entry for entry in self.local.values() if not (guest.running and entry.mirrored)]
            if offline:
                self.say("copying local disk images")
            for entry in sorted(offline, key=lambda entry: entry.volid):
                yield from self._copy(guest, entry)
        except (ApiError, Interrupted) as error:
            text = "interrupted by signal" if isinstance(error, Interrupted) else error.text
            self.say(text, "ERROR: ")
            yield from self._cleanup(guest, 1)
            raise

    def _cleanup(self, guest: Guest, phase: int) -> Steps[None]:
        self.say(f"aborting phase {phase} - cleanup resources")
        for volid in self.moved.values():
            yield from self.cluster.storages.free(self.target, volid)
        if guest.config.get("lock") == "migrate":
            del guest.config["lock"]
        self.cluster.write(guest)

    def _scan(self, guest: Guest) -> None:
        """Which volumes have to go along, and whether they can (scan_local_volumes)."""
        cluster, storages = self.cluster, self.cluster.storages
        problems: list[tuple[str, str]] = []
        for volid, entry in volumes(guest).items():
            if not _is_local(cluster, entry) or volid == "cdrom":
                if volid == "cdrom":
                    problems.append(("", "can't migrate local cdrom drive"))
                continue
            if ":" not in volid:
                problems.append((volid, "local file/device"))
                continue
            self.local[volid] = entry
            volume = storages.find(self.source, volid)
            storage = storages.all[split_volid(volid)[0]]
            if volume is None:
                problems.append((volid, f"unable to determine size for volume '{volid}'"))
            elif entry.cdrom and not entry.is_cloudinit:
                problems.append((volid, "local cdrom image"))
            elif entry.is_cloudinit:
                continue
            elif volume.vmid != self.vmid:
                problems.append((volid, f"owned by other VM (owner = VM {volume.vmid})"))
            elif entry.snapshots and guest.running and not entry.is_vmstate:
                problems.append((volid, "online storage migration not possible if non-replicated snapshot exists"))
            elif (
                entry.snapshots and not entry.is_vmstate and not (storage.type == "zfspool" or volume.format == "qcow2")
            ):
                problems.append((volid, "non-migratable snapshot exists"))
            elif storages.linked_to(self.source, volid):
                problems.append((volid, "referenced by linked clone(s)"))
        for volid, entry in sorted(self.local.items()):
            generated = entry.is_cloudinit or entry.is_tpmstate
            if entry.is_attached and not generated:
                if guest.running and not self.params.get("with-local-disks"):
                    text = "can't live migrate attached local disks without with-local-disks option"
                    problems.append((volid, text))
                what = "local disk '{}' (attached)"
            elif entry.is_unused:
                what = "local disk '{}' (unused)"
            elif entry.snapshots and not generated:
                what = "local disk '{}' (referenced by snapshot(s))"
            elif entry.pending:
                what = "local disk '{}' (pending change)"
            else:
                what = "generated disk '{}' (in current VM config)"
            self.say(f"found {what.format(volid)}")
        for volid, text in sorted(problems):
            self.say(f"can't migrate local disk '{volid}': {text}" if volid else text)
        if problems:
            raise die("Problem found while scanning volumes - can't migrate VM - check log")
        for volid in sorted(self.local):
            storage = storages.all[split_volid(volid)[0]]
            if storage.type not in MOVABLE:
                text = f"can't migrate '{volid}' - storage type '{storage.type}' not supported"
                raise die(f"Problem found while scanning volumes - {text}")
            volume = storages.get(self.source, volid)
            if volume.parent:
                base = split_volid(volume.parent)[1]
                raise die(f"Problem found while scanning volumes - can't migrate '{volid}' as it's a clone of '{base}'")

    def _make(self, entry: Seen) -> Steps[Volume]:
        """A volume on the target for one here."""
        storages = self.cluster.storages
        volume = storages.get(self.source, entry.volid)
        name, volname = split_volid(entry.volid)
        to = self.names.of(name)
        storage = storages.all[to]
        form = volume.format if storage.has_files else "raw"
        place = storages.place(storage, self.target)
        wanted: str | None = volname.rsplit("/", 1)[-1]
        if not (storage.has_files and storages.all[name].has_files and form == volume.format):
            wanted = f"{volname.rsplit('/', 1)[-1].split('.')[0]}" + (f".{form}" if storage.has_files else "")
        if wanted is not None and (place, storages.volid(storage, self.vmid, wanted)) in storages.volumes:
            wanted = None
        made = yield from storages.allocate(self.target, to, self.vmid, volume.size, form, volname=wanted)
        made.snapshots, made.sizes = list(volume.snapshots), dict(volume.sizes)
        self.moved[entry.volid] = made.volid
        return made

    def _copy(self, guest: Guest, entry: Seen) -> Steps[None]:
        volume, storages = self.cluster.storages.get(self.source, entry.volid), self.cluster.storages.all
        name = split_volid(entry.volid)[0]
        to = self.names.of(name)
        failed = f"storage migration for '{entry.volid}' to storage '{to}' failed - "
        if volume.format in ("qcow2", "vmdk") and not storages[to].has_files:
            # These are sent with their snapshots, as files only.
            raise die(f"{failed}cannot migrate from storage type '{storages[name].type}' to '{storages[to].type}'")
        try:
            made = yield from self._make(entry)
        except ApiError as error:
            raise die(failed + error.text) from None
        seconds = volume.size / GIB * self.cluster.durations.migrate_seconds_per_gib
        if self.params.get("bwlimit"):
            seconds = max(seconds, volume.size / 1024 / self.params["bwlimit"])
        yield from send_data(self.say, volume.size, seconds)
        self.say(f"successfully imported '{made.volid}'")
        self.say(f"volume '{entry.volid}' is '{made.volid}' on the target")

    def _phase2(self, guest: Guest) -> Steps[None]:
        """RAM and the disks in use."""
        cluster, task = self.cluster, self.task
        self.say(f"starting VM {self.vmid} on remote node '{self.target}'")
        yield Sleep(cluster.durations.start)
        there = cluster.nodes[self.target]
        if not there.online:
            raise die(f"can't connect to node '{self.target}'")
        needed = memory(guest.config)
        used = sum(
            memory(other.config) for other in cluster.guests.values() if other.node == self.target and other.running
        )
        if used + needed > there.maxmem:
            command = f"/usr/bin/ssh root@{there.ip} qm start {self.vmid} --stateuri unix"
            raise die(f"remote command failed with exit code 255: command '{command}' failed")
        online = [entry for entry in self.local.values() if entry.mirrored]
        for entry in online:
            made = yield from self._make(entry)
            self.say(f"volume '{entry.volid}' is '{made.volid}' on the target")
        self.say("start remote tunnel")
        self.say("ssh tunnel ver 1")
        if online:
            self.say("starting storage migration")
        for entry in online:
            nbd = f"nbd:unix:/run/qemu-server/{self.vmid}_nbd.migrate:exportname=drive-{entry.drivename}"
            self.say(f"{entry.drivename}: start migration to {nbd}")
            size = cluster.storages.get(self.source, entry.volid).size
            seconds = cluster.durations.migrate_seconds_per_gib
            yield from mirror_data(cluster, task, str(entry.drivename), size, seconds, finish=False)
        if online:
            self.say("switching mirror jobs to actively synced mode")
            for entry in online:
                task.log(f"mirror-{entry.drivename}: switching to actively synced mode")
                task.log(f"mirror-{entry.drivename}: successfully switched to actively synced mode")
        socket = f"unix:/run/qemu-server/{self.vmid}.migrate"
        self.say(f"starting online/live migration on {socket}")
        self.say("set migration capabilities")
        self.say("migration downtime limit: 100 ms")
        self.say("migration cachesize: 16.0 MiB")
        self.say("set migration parameters")
        self.say(f"start migrate command to {socket}")
        seconds = needed / GIB * cluster.durations.migrate_seconds_per_gib
        total = int(needed * 0.55)
        for step in range(1, int(seconds) + 1):
            yield Sleep(1.0)
            done = total * step // (int(seconds) + 1)
            self.say(
                f"migration active, transferred {human(done)} of {human(needed)} VM-state, {human(total / seconds)}/s"
            )
        yield Sleep(seconds - int(seconds))
        self.say(f"average migration speed: {human(needed / max(seconds, 0.1))}/s - downtime 23 ms")
        self.say(f"migration completed, transferred {human(total)} VM-state")
        self.say("migration status: completed")
        if online:
            task.log("all 'mirror' jobs are ready")
        for entry in online:
            finish_mirror(task, str(entry.drivename))

    def _phase3(self, guest: Guest) -> Steps[None]:
        """The configuration moves, then what is left here goes."""
        cluster, storages = self.cluster, self.cluster.storages
        for config in (guest.config, guest.pending, *guest.snapshots.values()):
            for option in list(config):
                if is_drive(option):
                    drive = parse_drive(option, config[option])
                    if drive["file"] in self.moved:
                        drive["file"] = self.moved[drive["file"]]
                        config[option] = show_drive(drive)
                elif (is_unused(option) or option == "vmstate") and config[option] in self.moved:
                    config[option] = self.moved[config[option]]
        cluster.write(guest)
        guest.node = self.target
        was = guest.power
        if was is not None and self.local:
            self.say("stopping NBD storage migration server on target.")
        if was is not None:
            was.pid = cluster.next_pid(self.target)
            was.moved_from = was.booted
            was.since = cluster.now
            yield Sleep(0.5)
        for volid in self.local:
            yield from storages.free(self.source, volid)
        # `qm unlock` on the target comes last.
        yield Sleep(0.3)
        guest.config.pop("lock", None)
        cluster.touched(self.vmid)


_VM = "/nodes/{node}/qemu/{vmid}"
ROUTES: dict[tuple[str, str], Any] = {
    ("GET", f"{_VM}/migrate"): preconditions,
    ("POST", f"{_VM}/migrate"): migrate,
}
