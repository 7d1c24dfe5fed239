# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups: vzdump and restoring VMs.

Sources: pve-manager, PVE/API2/VZDump.pm and PVE/VZDump.pm; qemu-server, PVE/VZDump/QemuServer.pm and PVE/QemuServer.pm
(restore_vma_archive, restore_update_config_line, check_restore_permissions); pve-container, PVE/VZDump/LXC.pm; pve-storage,
PVE/Storage.pm (prune_mark_backup_group, get_max_protected_backups).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import lxc_config, lxc_power, qemu_disks, qemu_pending, qemu_power
from .clock import Interrupted, Lock, Sleep, Steps
from .copying import human
from .guests import is_cdrom, is_cloudinit, is_drive, is_unused, volume_options
from .http import ApiError, bad_parameters, die
from .model import GIB, Config, Guest, Kind, Power, Storage, Volume
from .propstring import MOUNT, NET, format_size, parse, parse_drive, parse_size, show, show_drive, split_list
from .storage import classify, max_protected, owned_backups, split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

GLOBAL_LOCK_MINUTES = 180
STOP_MINUTES = 10
_TEMPLATE_VARIABLES = ("cluster", "guestname", "node", "vmid")


def check_notes(template: str) -> None:
    """400 for a template of notes with unknown escapes or variables (verify_notes_template)."""
    if "\n" in template:
        raise bad_parameters({"notes-template": "contains a line feed"})
    unknown = [
        f"escape sequence '\\{found[1]}' at char {found.end() - 2}"
        for found in re.finditer(r"\\(.)", template)
        if found[1] not in "n\\"
    ] + [
        f"variable '{found[1]}' at char {found.end() - len(found[1])}"
        for found in re.finditer(r"\{\{([^\s{}]+)\}\}", template)
        if found[1] not in _TEMPLATE_VARIABLES
    ]
    if unknown:
        raise bad_parameters({"notes-template": f"found unknown: {', '.join(unknown)}"})


def _notes(cluster: Cluster, guest: Guest, template: str) -> str:
    values = {
        "cluster": cluster.name or "standalone node",
        "guestname": guest.config.get("name") or guest.config.get("hostname") or f"VM {guest.vmid}",
        "node": guest.node,
        "vmid": str(guest.vmid),
    }
    text = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else "\\", template)
    return re.sub(r"\{\{(cluster|guestname|node|vmid)\}\}", lambda found: values[found[1]], text)


def check_common(call: Call, params: Mapping[str, Any], *, deleting: bool = False) -> None:
    """400 or 403 for options that need more (assert_param_permission_common of PVE/API2/Backup.pm)."""
    if call.root:
        return
    for key in ("tmpdir", "dumpdir", "script", "job-id"):
        if key in params:
            raise bad_parameters({key: "Only root may set this option."})
    if any(params.get(key) is not None for key in ("bwlimit", "ionice", "performance")):
        call.check("/", "Sys.Modify")
    if params.get("fleecing") and not deleting:
        storage = dict(part.partition("=")[::2] for part in str(params["fleecing"]).split(",")).get("storage")
        if storage:
            call.check(f"/storage/{storage}", "Datastore.AllocateSpace")


def verify(params: dict[str, Any], *, missing: bool) -> None:
    """400 for a selection that contradicts itself or is none (verify_vzdump_parameters)."""
    for key in ("all", "exclude", "pool"):
        if params.get(key) and params.get("vmid"):
            raise bad_parameters({key: "option conflicts with option 'vmid'"})
    if params.get("notes-template"):
        check_notes(str(params["notes-template"]))
    if params.get("exclude") is not None and not params.get("pool"):
        params["all"] = 1
    if missing and not any(params.get(key) for key in ("all", "stop", "pool", "vmid")):
        raise bad_parameters({"vmid": "property is missing"})


def _command_line(call: Call) -> str:
    words = [f"--{key} {value}" for key, value in sorted(call.raw.items()) if key not in ("vmid", "node")]
    return " ".join(["vzdump", *split_list(str(call.params.get("vmid", ""))), *words, f"--node {call.node}"])


def vzdump(call: Call) -> str:
    """POST /nodes/{node}/vzdump: a UPID, or the word OK when every guest is elsewhere."""
    cluster, params, node = call.cluster, dict(call.params), call.node
    if params.get("stdout"):
        raise bad_parameters({"stdout": "option is only allowed on the command line interface."})
    check_common(call, params)
    for key in ("dumpdir", "tmpdir", "script", "job-id", "stop", "quiet"):
        if params.get(key):
            raise ApiError(501, f"the simulator does not model vzdump with '{key}'", newline=False)
    storage = params.get("storage") or "local"
    if params.get("prune-backups") is not None and not call.root:
        call.check(f"/storage/{storage}", "Datastore.Allocate")
    verify(params, missing=True)
    vmids = [int(vmid) for vmid in split_list(str(params.get("vmid", "")))]
    if params.get("pool"):
        vmids = sorted(getattr(cluster.access.pools.get(params["pool"]), "guests", ()))
    elif params.get("all"):
        excluded = {int(vmid) for vmid in split_list(str(params.get("exclude", "")))}
        vmids = sorted(vmid for vmid in cluster.guests if vmid not in excluded)
    local = [vmid for vmid in sorted(vmids) if vmid not in cluster.guests or cluster.guests[vmid].node == node]
    elsewhere = [vmid for vmid in vmids if vmid not in local]
    if not local and not params.get("all"):
        return "OK"
    call.check(f"/storage/{storage}", "Datastore.AllocateSpace")
    command = _command_line(call)

    def body(task: Task) -> Steps[None]:
        target = cluster.storages.all.get(storage)
        if target is None:
            raise die(f"could not get storage information for '{storage}': storage '{storage}' does not exist")
        if "backup" not in target.content:
            text = f"can't use storage '{storage}' for backups - wrong content type"
            raise die(f"could not get storage information for '{storage}': {text}")
        lock = cluster.lock(node, "/var/run/vzdump.lock")
        if lock.held:
            task.log("INFO: trying to get global lock - waiting...")
        with (yield from lock.acquire(60.0 * int(params.get("lockwait") or GLOBAL_LOCK_MINUTES))):
            if task.log_lines:
                task.log("INFO: got global lock")
            task.log(f"INFO: starting new backup job: {command}")
            if elsewhere:
                task.log(f"INFO: skip external VMs: {', '.join(str(vmid) for vmid in elsewhere)}")
            if not params.get("all"):
                for vmid in local:
                    if vmid in cluster.guests:
                        call.check(f"/vms/{vmid}", "VM.Backup")
            failed = False
            for vmid in local:
                if vmid in cluster.guests and not call.allowed(f"/vms/{vmid}", "VM.Backup"):
                    continue
                try:
                    yield from _backup(call, task, vmid, target)
                except ApiError as error:
                    failed = True
                    task.log(f"ERROR: Backup of VM {vmid} failed - {error.text}")
                    task.log(f"INFO: Failed at {cluster.stamp()}")
                    if error.text == INTERRUPTED:
                        task.log(f"ERROR: Backup job failed - {INTERRUPTED}")
                        raise
            if failed:
                task.log("INFO: Backup job finished with errors")
                raise die("job errors")
            task.log("INFO: Backup job finished successfully")

    return call.task("vzdump", local[0] if len(local) == 1 else "", body)


INTERRUPTED = "interrupted by signal"


def _config_lock(cluster: Cluster, guest: Guest) -> Lock:
    if guest.kind == "lxc":
        return lxc_config.lock(cluster, guest.node, guest.vmid)
    return cluster.config_lock(guest.node, guest.vmid)


def _backup(call: Call, task: Task, vmid: int, storage: Storage) -> Steps[None]:
    """One guest (exec_backup_task). Raises ApiError; then the guest is as before."""
    cluster, node, params = call.cluster, call.node, call.params
    guest = cluster.guests.get(vmid)
    if guest is None or guest.node != node:
        raise die(f"unable to find VM '{vmid}'")
    began = cluster.now
    kind = guest.kind
    mode = str(params.get("mode", "snapshot"))
    if mode == "stop" and cluster.ha_managed(vmid) and cluster.ha.resources[_sid(guest)].get("state") == "started":
        raise die(
            "Cannot execute a backup with stop mode on a HA managed and enabled Service. Use snapshot mode or disable the Service."
        )
    keep = _retention(storage, params)
    _check_limits(call, guest, storage, keep)
    task.log(f"INFO: Starting Backup of VM {vmid} ({kind})")
    task.log(f"INFO: Backup started at {cluster.stamp()}")
    was_running = guest.running
    task.log(f"INFO: status = {'running' if was_running else 'stopped'}")
    with (yield from _config_lock(cluster, guest).acquire(10.0, log=task.log)):
        lock = guest.config.get("lock")
        if lock:
            raise die(f"{'CT' if kind == 'lxc' else 'VM'} is locked ({lock})")
        guest.config["lock"] = "backup"
        cluster.write(guest)
    # A worker that is killed leaves the lock, so this is no `finally`.
    try:
        yield from _dump(call, task, guest, storage, mode if was_running else "stop", was_running)
        if params.get("remove", 1) and not keep.get("keep-all") and keep:
            yield from _prune(call, task, guest, storage, keep)
    except (ApiError, Interrupted) as error:
        _unlock(cluster, guest)
        if not was_running and kind == "qemu":
            guest.power = None
        if isinstance(error, Interrupted):
            raise die(INTERRUPTED) from None
        raise
    if not was_running and kind == "qemu":
        # Unlocking waits for qm cleanup, which QEMU's end has started.
        task.log("trying to acquire lock...\n OK")
    _unlock(cluster, guest)
    passed = int(cluster.now - began)
    task.log(f"INFO: Finished Backup of VM {vmid} ({time.strftime('%H:%M:%S', time.gmtime(passed))})")
    task.log(f"INFO: Backup finished at {cluster.stamp()}")


def _sid(guest: Guest) -> str:
    return f"{'vm' if guest.kind == 'qemu' else 'ct'}:{guest.vmid}"


def _unlock(cluster: Cluster, guest: Guest) -> None:
    if guest.config.get("lock") == "backup":
        del guest.config["lock"]
    cluster.touched(guest.vmid)


def _retention(storage: Storage, params: Mapping[str, Any]) -> dict[str, int]:
    """How many backups are kept of each kind: what the call says, else the storage; empty keeps all."""
    text = str(params.get("prune-backups") or storage.options.get("prune-backups", "keep-all=1"))
    return {key: int(value) for key, value in (part.split("=") for part in text.split(","))}


def _check_limits(call: Call, guest: Guest, storage: Storage, keep: Mapping[str, int]) -> None:
    cluster, params = call.cluster, call.params
    found = owned_backups(cluster, storage, guest.node, guest.vmid, guest.kind)
    protected = sum(volume.protected for volume in found)
    if params.get("protected"):
        most = max_protected(call, storage)
        if -1 < most <= protected:
            raise die(f"The number of protected backups per guest is limited to {most} on storage '{storage.name}'")
    elif not keep.get("keep-all") and not params.get("remove", 1):
        limit = sum(keep.values())
        if limit and len(found) - protected >= limit:
            raise die(
                f"There is a max backup limit of {limit} enforced by the target storage or the vzdump parameters."
                " Either increase the limit or delete old backups."
            )


def _dump(call: Call, task: Task, guest: Guest, storage: Storage, mode: str, was_running: bool) -> Steps[None]:
    cluster, params, vmid = call.cluster, call.params, guest.vmid
    say = task.log
    began = cluster.now
    lines, size = _volumes(cluster, guest)
    if mode == "snapshot" and guest.kind == "lxc" and not lxc_config.has_feature(cluster, guest, "snapshot"):
        for line in lines:
            say(line)
        say("INFO: mode failure - some volumes do not support snapshots")
        say("INFO: trying 'suspend' mode instead")
        mode = "suspend"
    elif mode == "snapshot":
        for line in lines:
            say(line)
    say(f"INFO: backup mode: {mode}")
    if params.get("bwlimit"):
        say(f"INFO: bandwidth limit: {params['bwlimit']} KiB/s")
    say(f"INFO: ionice priority: {params.get('ionice', 7)}")
    if mode != "snapshot":
        for line in lines:
            say(line)
    stopped = began
    if mode == "stop" and was_running:
        say("INFO: stopping virtual guest")
        stopped = cluster.now
        yield from _stop(cluster, guest, task, 60.0 * int(params.get("stopwait", STOP_MINUTES)))
    elif mode == "suspend":
        if guest.kind == "lxc":
            say(f"INFO: starting first sync /proc/{guest.power.pid if guest.power else 0}/root/ to /var/tmp/vzdumptmp")
            yield Sleep(size / GIB * cluster.durations.backup_seconds_per_gib)
            say(f"INFO: first sync finished - transferred {size // 3} bytes in {int(cluster.now - began)}s")
        say("INFO: suspending guest")
        stopped = cluster.now
        if guest.kind == "lxc":
            say(f"INFO: starting final sync /proc/{guest.power.pid if guest.power else 0}/root/ to /var/tmp/vzdumptmp")
            say("INFO: final sync finished - transferred 0 bytes in 0s")
            say("INFO: resuming guest")
            say("INFO: guest is online again after <1 seconds")
    elif guest.kind == "lxc" and was_running:
        say("INFO: create storage snapshot 'vzdump'")
    volid, form = _archive(str(params.get("compress")), storage, guest, began)
    pbs = storage.type == "pbs"
    shown = volid.partition(":backup/")[2] if pbs else cluster.storages.path(volid)
    say(f"INFO: creating {'Proxmox Backup Server' if pbs else 'vzdump'} archive '{shown}'")
    if guest.kind == "qemu":
        used = yield from _copy_vm(call, task, guest, size, mode, was_running, stopped)
    else:
        seconds = _seconds(cluster, params, size)
        yield Sleep(seconds)
        used = size // 3
        if not pbs:
            rate = human(used / max(seconds, 1)).replace(".0 ", "").replace(" ", "")
            say(f"INFO: Total bytes written: {used} ({human(used).replace('.0 ', '').replace(' ', '')}, {rate}/s)")
    if not pbs:
        say(f"INFO: archive file size: {_file_size(used)}")
    place = cluster.storages.place(storage, guest.node)
    made = Volume(volid, used, form, "backup", vmid, int(began), used=used)
    cluster.storages.volumes[place, volid] = made
    _keep(cluster, guest, volid)
    if params.get("notes-template"):
        say("INFO: adding notes to backup")
        made.notes = _notes(cluster, guest, str(params["notes-template"]))
    if params.get("protected"):
        say("INFO: marking backup as protected")
        made.protected = True
    if mode == "snapshot" and guest.kind == "lxc":
        say("INFO: cleanup temporary 'vzdump' snapshot")
    elif mode == "suspend" and guest.kind == "qemu":
        say("INFO: resume vm")
        say(f"INFO: guest is online again after {int(cluster.now - stopped)} seconds")
    elif mode == "stop" and was_running and guest.kind == "lxc":
        say("INFO: restarting vm")
        yield from lxc_power.start_unlocked(cluster, guest, task)
        say(f"INFO: guest is online again after {int(cluster.now - stopped)} seconds")


def _volumes(cluster: Cluster, guest: Guest) -> tuple[list[str], int]:
    """The lines about what is backed up, and its bytes."""
    size = 0
    lines = []
    config = guest.config
    if guest.kind == "lxc":
        lines.append(f"INFO: CT Name: {config.get('hostname', f'CT{guest.vmid}')}")
    elif config.get("name"):
        lines.append(f"INFO: VM Name: {config['name']}")
    for option, volid in volume_options(guest, config).items():
        volume = cluster.storages.find(guest.node, volid)
        if volume is None or is_unused(option) or "cloudinit" in volid:
            continue
        if guest.kind == "lxc":
            mount = parse(MOUNT, config[option])
            where = mount.get("mp", "/")
            if option != "rootfs" and mount.get("backup") != "1":
                lines.append(f"INFO: excluding volume mount point {option} ('{where}') from backup (disabled)")
                continue
            lines.append(f"INFO: including mount point {option} ('{where}') in backup")
        else:
            if parse_drive(option, config[option]).get("backup") == "0":
                lines.append(f"INFO: exclude disk '{option}' '{volid}' (backup=no)")
                continue
            lines.append(f"INFO: include disk '{option}' '{volid}' {format_size(volume.size)}")
        size += volume.size
    return lines, size


def _stop(cluster: Cluster, guest: Guest, task: Task, timeout: float) -> Steps[None]:
    """Stop a running guest for a backup in stop mode, which must have its lock."""
    if guest.kind == "lxc":
        yield from lxc_power.stop_unlocked(cluster, guest, task, kill=False, timeout=timeout)
        return
    if not guest.behaviour.acpi:
        yield Sleep(timeout)
        raise die(
            f"command 'qm shutdown {guest.vmid} --skiplock --keepActive --timeout {timeout:.0f}' failed: exit code 255"
        )
    yield Sleep(guest.behaviour.shutdown_seconds)
    guest.power = None
    cluster.touched(guest.vmid)


def put(cluster: Cluster, guest: Guest, storage: Storage, age: float, notes: str, protected: bool) -> str:
    """A backup of a guest, at once."""
    volid, form = _archive("zstd", storage, guest, cluster.now - age)
    size = _volumes(cluster, guest)[1] // 3
    made = Volume(volid, size, form, "backup", guest.vmid, int(cluster.now - age), notes=notes, protected=protected)
    cluster.storages.volumes[cluster.storages.place(storage, guest.node), volid] = made
    _keep(cluster, guest, volid)
    return volid


def _keep(cluster: Cluster, guest: Guest, volid: str) -> None:
    """Note what configuration is in a backup."""
    kept = {key: value for key, value in guest.config.items() if key not in ("lock", "parent")}
    cluster.archives[volid] = (kept, guest.kind)


def _archive(compress: str, storage: Storage, guest: Guest, began: float) -> tuple[str, str]:
    """The volume id and the format of a new backup."""
    if storage.type == "pbs":
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
        kind = "vm" if guest.kind == "qemu" else "ct"
        return f"{storage.name}:backup/{kind}/{guest.vmid}/{stamp}", f"pbs-{kind}"
    packed = {"zstd": ".zst", "gzip": ".gz", "lzo": ".lzo", "1": ".lzo"}.get(compress, "")
    form = f"{'vma' if guest.kind == 'qemu' else 'tar'}{packed}"
    stamp = time.strftime("%Y_%m_%d-%H_%M_%S", time.gmtime(began))
    return f"{storage.name}:backup/vzdump-{guest.kind}-{guest.vmid}-{stamp}.{form}", form


def _seconds(cluster: Cluster, params: Mapping[str, Any], size: int) -> float:
    seconds = size / GIB * cluster.durations.backup_seconds_per_gib
    return max(seconds, size / 1024 / params["bwlimit"]) if params.get("bwlimit") else seconds


def _file_size(size: int) -> str:
    """format_size of PVE/VZDump.pm."""
    for unit, factor in (("KB", 2**10), ("MB", 2**20)):
        if size < factor * 1024:
            return f"{size // factor}{unit}"
    return f"{size / GIB:.2f}GB" if size < GIB * 1024 else f"{size / GIB / 1024:.2f}TB"


def _copy_vm(
    call: Call, task: Task, guest: Guest, size: int, mode: str, was_running: bool, stopped: float
) -> Steps[int]:
    """What QEMU copies; the process is started for it where there is none. Returns the bytes written."""
    cluster, say = call.cluster, task.log
    paused = guest.power is not None and guest.power.qmp in ("paused", "prelaunch")
    if not guest.running:
        say("INFO: starting kvm to execute backup task")
        yield Sleep(cluster.durations.start)
        guest.power = Power(cluster.next_pid(guest.node), cluster.now, qmp="prelaunch")
        cluster.touched(guest.vmid)
    agent = guest.config.get("agent", "0").split(",")[0] in ("1", "enabled=1")
    frozen = agent and mode == "snapshot" and was_running
    if frozen:
        say("INFO: issuing guest-agent 'fs-freeze' command")
    say("INFO: starting backup via QMP command")
    if frozen:
        say("INFO: issuing guest-agent 'fs-thaw' command")
    say(f"INFO: started backup task '{cluster.new_uuid()}'")
    # What is paused stays so (enforce_vm_running_for_backup, resume_vm_after_job_start).
    if was_running and mode != "suspend" and guest.power is not None and not paused:
        guest.power.qmp = "running"
        after = f" after {int(cluster.now - stopped)} seconds" if mode == "stop" else ""
        say(f"INFO: resuming VM again{after}")
    seconds = _seconds(cluster, call.params, size)
    # A line every three seconds, and one at the end (query_backup_status_loop).
    rounds = max(1, -(-int(seconds) // 3))
    for step in range(1, rounds + 1):
        yield Sleep(seconds / rounds)
        share, passed = 100 * step // rounds, max(1, int(seconds * step / rounds))
        done, rate = human(size * step // rounds), human(size / max(seconds, 1))
        written = human(size / 3 / max(seconds, 1)) + "/s"
        say(f"INFO: {share:3d}% ({done} of {human(size)}) in {_duration(passed)}, read: {rate}/s, write: {written}")
    say(f"INFO: backup is sparse: {size / 2**20 * 0.67:.2f} MiB (67%) total zero data")
    whole = max(1, int(seconds))
    say(f"INFO: transferred {size / 2**20:.2f} MiB in {whole} seconds ({human(size / whole)}/s)")
    if not was_running:
        if guest.power is not None and guest.power.qmp == "prelaunch":
            say("INFO: stopping kvm after backup task")
            guest.power = None
            cluster.touched(guest.vmid)
        else:
            say("INFO: kvm status changed after backup ('running') - keep VM running")
    return size // 3


def _duration(seconds: int) -> str:
    """render_duration of PVE/Format.pm."""
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    return " ".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def _prune(call: Call, task: Task, guest: Guest, storage: Storage, keep: Mapping[str, int]) -> Steps[None]:
    cluster = call.cluster
    shown = ", ".join(f"{key}={value}" for key, value in sorted(keep.items()))
    task.log(f"INFO: prune older backups with retention: {shown}")
    gone = pruned(owned_backups(cluster, storage, guest.node, guest.vmid, guest.kind), keep)
    for volume in gone:
        task.log(f"INFO: removing backup '{volume.volid}'")
        yield Sleep(0.0)
        cluster.storages.volumes.pop((cluster.storages.place(storage, guest.node), volume.volid), None)
    more = " not covered by keep-retention policy" if gone else ""
    task.log(f"INFO: pruned {len(gone)} backup(s){more}")


# How the times of a kind of retention are told apart, in the order in which they are applied.
_SPANS: tuple[tuple[str, Callable[[int], str]], ...] = (
    ("keep-last", str),
    ("keep-hourly", lambda when: time.strftime("%H/%d/%m/%Y", time.gmtime(when))),
    ("keep-daily", lambda when: time.strftime("%d/%m/%Y", time.gmtime(when))),
    ("keep-weekly", lambda when: time.strftime("%V/%G", time.gmtime(when))),
    ("keep-monthly", lambda when: time.strftime("%m/%Y", time.gmtime(when))),
    ("keep-yearly", lambda when: time.strftime("%Y", time.gmtime(when))),
)


def pruned(backups: list[Volume], keep: Mapping[str, int]) -> list[Volume]:
    """The backups of a guest that a retention does not keep, newest first (prune_mark_backup_group)."""
    if keep.get("keep-all") or not any(count > 0 for count in keep.values()):
        return []
    marks = {volume.volid: "protected" for volume in backups if volume.protected}
    newest = sorted(backups, key=lambda volume: volume.ctime, reverse=True)
    for key, span in _SPANS:
        count = keep.get(key, 0)
        if count <= 0:
            continue
        kept = {span(volume.ctime) for volume in newest if marks.get(volume.volid) == "keep"}
        taken: set[str] = set()
        for volume in newest:
            if volume.volid in marks:
                continue
            when = span(volume.ctime)
            if when in kept:
                continue
            if when not in taken:
                if len(taken) >= count:
                    break
                taken.add(when)
                marks[volume.volid] = "keep"
            else:
                marks[volume.volid] = "remove"
    return [volume for volume in newest if marks.get(volume.volid, "remove") == "remove"]


def find(call: Call, archive: str) -> str:
    """An archive to restore from. Raises ApiError."""
    cluster = call.cluster
    if archive == "-":
        raise die("pipe requires cli environment")
    if archive.startswith("/"):
        if not call.root:
            raise die("Only root can pass arbitrary filesystem paths.")
        raise die(f"unable to find volume of archive '{archive}'")
    cluster.storages.config(split_volid(archive)[0])
    vmid = int(call.params["vmid"])
    what, owner = classify(archive)
    cluster.access.check_volume(call.authid, vmid, archive, what, owner, "backup")
    return archive


def may_overwrite(call: Call, existing: Guest | None) -> bool:
    """Whether VM.Backup is enough: for restoring over a guest of that kind and node that exists."""
    here = existing is not None and existing.node == call.node and existing.kind == "qemu"
    return here and bool(call.params.get("force")) and call.allowed(f"/vms/{call.vmid}", "VM.Backup")


def reserve(call: Call, kind: Kind, emsg: str) -> tuple[Guest, Config]:
    """Take the VMID for what is to be restored, with lock `create` (create_and_lock_config). Returns its configuration before.

    Raises:
        ApiError: it exists and may not be overwritten, or is locked.
    """
    cluster, node, vmid = call.cluster, call.node, call.vmid
    existing = cluster.guests.get(vmid)
    if existing is not None and not call.params.get("force"):
        raise die(f"{emsg} {'CT' if existing.kind == 'lxc' else 'VM'} {vmid} already exists on node '{existing.node}'")
    if existing is not None and (existing.node != node or existing.kind != kind):
        path = f"/etc/pve/nodes/{node}/{'lxc' if kind == 'lxc' else 'qemu-server'}/{vmid}.conf"
        raise die(f"{emsg} close (rename) atomic file '{path}' failed: File exists")
    if existing is not None and existing.config.get("lock"):
        raise die(f"{emsg} {'CT' if kind == 'lxc' else 'VM'} is locked ({existing.config['lock']})")
    guest = existing or Guest(vmid, kind, node)
    old = dict(guest.config)
    guest.config = {**guest.config, "lock": "create"}
    cluster.guests[vmid] = guest
    cluster.write(guest)
    return guest, old


def restore_vm(call: Call, overrides: Config) -> str:
    """POST /nodes/{node}/qemu with `archive`, after its checks."""
    if call.params.get("live-restore") or call.params.get("ha-managed"):
        raise ApiError(501, "the simulator does not model restoring VMs live or with high availability", newline=False)
    guest, old = reserve(call, "qemu", f"unable to restore VM {call.vmid} -")

    def unlock() -> None:
        guest.config.pop("lock", None)

    return call.task("qmrestore", call.vmid, lambda task: restore(call, task, guest, old, overrides), undo=unlock)


def restore(call: Call, task: Task, guest: Guest, old: Config, overrides: Config) -> Steps[None]:
    """The body of qmrestore. Raises ApiError; then the VM stays, without the lock."""
    cluster, params, vmid = call.cluster, call.params, guest.vmid
    try:
        if old.get("protection") == "1":
            raise die(f"unable to restore VM {vmid} - protection mode enabled")
        if guest.running:
            raise die(f"unable to restore VM {vmid} - vm is running")
        with (yield from cluster.config_lock(guest.node, vmid).acquire(1.0, log=task.log)):
            yield from _extract(call, task, guest, old, overrides)
    except (ApiError, Interrupted):
        if guest.config.get("lock") == "create":
            del guest.config["lock"]
        task.log(
            "error before or during data restore, some or all disks were not completely restored."
            f" VM {vmid} state is NOT cleaned up."
        )
        raise
    if params.get("pool"):
        cluster.access.add_to_pool(params["pool"], vmid)
    if params.get("start"):
        task.log("Execute autostart")
        try:
            qemu_power.vm_start(replace(call, params={"node": call.node, "vmid": vmid}))
        except ApiError as error:
            task.log(error.text)


def _extract(call: Call, task: Task, guest: Guest, old: Config, overrides: Config) -> Steps[None]:
    cluster, params, archive = call.cluster, call.params, call.params["archive"]
    storages = cluster.storages
    if archive not in cluster.archives or storages.find(guest.node, archive) is None:
        raise die(f"volume '{archive}' does not exist")
    if cluster.archives[archive][1] != "qemu" or storages.all[split_volid(archive)[0]].type == "pbs":
        raise ApiError(501, f"the simulator does not model restoring a VM from {archive}", newline=False)
    config = dict(cluster.archives[archive][0])
    for option, text in sorted((config | overrides).items()):
        net = parse(NET, text) if re.fullmatch(r"net\d+", option) else {}
        if "bridge" in net:
            cluster.access.check_bridge(call.authid, net["bridge"], net.get("tag"), net.get("trunks", ""))
    path = storages.path(archive)
    fifo = f"/var/tmp/vzdumptmp{task.pid}"
    unpack = {"zst": "zstd -q -d -c", "gz": "zcat", "lzo": "lzop -d -c"}.get(path.rsplit(".", 1)[-1])
    feed = (
        f"{unpack} {path} | vma extract -v -r {fifo}.fifo - {fifo}"
        if unpack
        else f"vma extract -v -r {fifo}.fifo {path} {fifo}"
    )
    task.log(f"restore vma archive: {feed}")
    task.log(f"CFG: size: {len(guest.text())} name: qemu-server.conf")
    drives = [
        (option, parse_drive(option, value))
        for option, value in sorted(config.items())
        if is_drive(option) and not is_cdrom(parse_drive(option, value))
        if parse_drive(option, value).get("backup") != "0"
    ]
    for _option, drive in drives:
        name = params.get("storage") or split_volid(drive["file"])[0]
        if "images" not in storages.config(name).content:
            raise die(f"Content type 'images' is not available on storage '{name}'")
        call.check(f"/storage/{name}", "Datastore.AllocateSpace")
    for number, (option, drive) in enumerate(drives, 1):
        task.log(f"DEV: dev_id={number} size: {_bytes(drive)} devname: drive-{option}")
    task.log(time.strftime("CTIME: %a %b %e %H:%M:%S %Y", time.gmtime(cluster.now)).replace("  ", " "))
    for volid in volume_options(guest, old).values():
        if qemu_pending.owned(cluster, guest, volid):
            yield from storages.free(guest.node, volid)
    total = sum(_bytes(drive) for _option, drive in drives)
    seconds = total / GIB * cluster.durations.clone_seconds_per_gib
    if params.get("bwlimit"):
        seconds = max(seconds, total / 1024 / params["bwlimit"])
    made: list[str] = []
    try:
        for option, drive in drives:
            target = params.get("storage") or split_volid(drive["file"])[0]
            volume = yield from storages.allocate(guest.node, target, guest.vmid, _bytes(drive), task=task)
            made.append(volume.volid)
            task.log(f"new volume ID is '{volume.volid}'")
            task.log(f"map 'drive-{option}' to '{storages.path(volume.volid)}' (write zeros = 0)")
            config[option] = show_drive({**drive, "file": volume.volid, "size": format_size(volume.size)})
        for share in range(1, 101):
            yield Sleep(seconds / 100)
            task.log(
                f"progress {share}% (read {total * share // 100} bytes, duration {int(cluster.now - task.start)} sec)"
            )
    except (ApiError, Interrupted):
        for volid in made:
            task.log(f"temporary volume '{volid}' sucessfuly removed")
            yield from storages.free(guest.node, volid)
        raise
    for option, value in sorted(config.items()):
        if is_drive(option) and is_cloudinit(parse_drive(option, value)):
            guest.config = {"lock": "create"}
            fresh = f"{params.get('storage') or value.partition(':')[0]}:cloudinit"
            config[option] = yield from qemu_disks.create(cluster, guest, option, fresh, task, [])
    task.log(f"total bytes read {total}, sparse bytes {total * 67 // 100} (67.5%)")
    task.log("space reduction due to 4K zero blocks 1.06%")
    task.log("rescan volumes...")
    if params.get("unique"):
        for option in [option for option in config if option.startswith("net") and option[3:].isdigit()]:
            config[option] = show(NET, {**parse(NET, config[option]), "macaddr": cluster.new_mac()})
        config["smbios1"] = f"uuid={cluster.new_uuid()}"
    if "vmgenid" in config:
        config["vmgenid"] = cluster.new_uuid()
    for key in ("parent", "template", "lock", *(option for option in config if is_unused(option))):
        config.pop(key, None)
    guest.config = config | overrides
    guest.pending, guest.pending_delete, guest.snapshots = {}, {}, {}
    cluster.write(guest)


def _bytes(drive: dict[str, str]) -> int:
    return parse_size(drive.get("size", "0"))


ROUTES: dict[tuple[str, str], Any] = {("POST", "/nodes/{node}/vzdump"): vzdump}
