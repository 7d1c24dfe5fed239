# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups: vzdump and restoring, as far as a guest's life shows them.

Sources: pve-manager, PVE/API2/VZDump.pm and PVE/VZDump.pm; qemu-server, PVE/VZDump/QemuServer.pm and PVE/QemuServer.pm
(restore_vma_archive, restore_update_config_line).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import qemu_disks, qemu_pending
from .clock import Interrupted, Sleep, Steps
from .copying import human
from .guests import is_cdrom, is_cloudinit, is_drive, is_unused, volume_options
from .http import ApiError, bad_parameters, die
from .model import GIB, Config, Guest, Power, Volume
from .propstring import NET, format_size, parse, parse_drive, parse_size, show, show_drive, split_list
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call

GLOBAL_LOCK_SECONDS = 180 * 60.0


def _command_line(call: Call) -> str:
    words = [f"--{key} {value}" for key, value in sorted(call.raw.items()) if key not in ("vmid", "node")]
    return " ".join(["vzdump", *split_list(str(call.params.get("vmid", ""))), *words, f"--node {call.node}"])


def vzdump(call: Call) -> str:
    """POST /nodes/{node}/vzdump: a UPID, or the word OK when every guest is elsewhere."""
    cluster, params, node = call.cluster, call.params, call.node
    vmids = [int(vmid) for vmid in split_list(str(params.get("vmid", "")))]
    if params.get("all"):
        vmids = sorted(vmid for vmid, guest in cluster.guests.items() if guest.node == node)
    elif params.get("pool"):
        cluster.access.check_pool_exists(params["pool"])
        vmids = sorted(cluster.access.pools[params["pool"]].guests)
    elif not vmids:
        raise bad_parameters({"vmid": "property is missing"})
    local = [vmid for vmid in vmids if vmid not in cluster.guests or cluster.guests[vmid].node == node]
    if not local and not params.get("all"):
        return "OK"
    storage = params.get("storage") or ("local" if not params.get("dumpdir") else "")
    if storage:
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
        with (yield from lock.acquire(GLOBAL_LOCK_SECONDS)):
            task.log(f"INFO: starting new backup job: {command}")
            failed = False
            for vmid in local:
                try:
                    yield from _backup(call, task, vmid, storage)
                except ApiError as error:
                    failed = True
                    task.log(f"ERROR: Backup of VM {vmid} failed - {error.text}")
                    task.log(f"INFO: Failed at {cluster.stamp()}")
            if failed:
                task.log("INFO: Backup job finished with errors")
                raise die("job errors")
            task.log("INFO: Backup job finished successfully")

    return call.task("vzdump", local[0] if len(local) == 1 else "", body)


def _backup(call: Call, task: Task, vmid: int, storage: str) -> Steps[None]:
    cluster, node = call.cluster, call.node
    guest = cluster.guests.get(vmid)
    if guest is None or guest.node != node:
        raise die(f"unable to find VM '{vmid}'")
    began = cluster.now
    kind = guest.kind
    task.log(f"INFO: Starting Backup of VM {vmid} ({kind})")
    task.log(f"INFO: Backup started at {cluster.stamp()}")
    was_running = guest.running
    with (yield from cluster.lock_config(node, vmid, task.log)):
        lock = guest.config.get("lock")
        if lock:
            raise die(f"{'CT' if kind == 'lxc' else 'VM'} is locked ({lock})")
        guest.config["lock"] = "backup"
        cluster.write(guest)
    try:
        yield from _dump(call, task, guest, storage, was_running)
    finally:
        if guest.config.get("lock") == "backup":
            del guest.config["lock"]
        if not was_running and kind == "qemu":
            guest.power = None
        cluster.touched(vmid)
    passed = int(cluster.now - began)
    task.log(f"INFO: Finished Backup of VM {vmid} ({time.strftime('%H:%M:%S', time.gmtime(passed))})")
    task.log(f"INFO: Backup finished at {cluster.stamp()}")


def _dump(call: Call, task: Task, guest: Guest, storage: str, was_running: bool) -> Steps[None]:
    cluster, params, vmid = call.cluster, call.params, guest.vmid
    target = cluster.storages.all[storage]
    mode = params.get("mode", "snapshot")
    say = task.log
    size = 0
    lines = []
    for option, volid in volume_options(guest, guest.config).items():
        volume = cluster.storages.find(guest.node, volid)
        if volume is None or is_unused(option) or "cloudinit" in volid:
            continue
        size += volume.size
        lines.append(f"INFO: include disk '{option}' '{volid}' {format_size(volume.size)}")
    name = guest.config.get("name") or guest.config.get("hostname", "")
    say(f"INFO: status = {'running' if was_running else 'stopped'}")
    if was_running:
        say(f"INFO: VM Name: {name}")
        for line in lines:
            say(line)
        say(f"INFO: backup mode: {mode}")
        if "bwlimit" in params:
            say(f"INFO: bandwidth limit: {params['bwlimit']} KiB/s")
        say("INFO: ionice priority: 7")
    else:
        say("INFO: backup mode: stop")
        say("INFO: ionice priority: 7")
        say(f"INFO: VM Name: {name}")
        for line in lines:
            say(line)
    extension = {"zstd": "vma.zst", "gzip": "vma.gz", "lzo": "vma.lzo"}.get(str(params.get("compress")), "vma")
    if guest.kind == "lxc":
        extension = extension.replace("vma", "tar")
    stamp = time.strftime("%Y_%m_%d-%H_%M_%S", time.gmtime(cluster.now))
    file = f"vzdump-{guest.kind}-{vmid}-{stamp}.{extension}"
    volid = f"{storage}:backup/{file}"
    say(f"INFO: creating vzdump archive '{cluster.storages.path(volid)}'")
    if not was_running and guest.kind == "qemu":
        say("INFO: starting kvm to execute backup task")
        yield Sleep(cluster.durations.start)
        guest.power = Power(cluster.next_pid(guest.node), cluster.now, qmp="prelaunch")
        cluster.touched(vmid)
        say("INFO: starting backup via QMP command")
    elif guest.kind == "qemu":
        say("INFO: issuing guest-agent 'fs-freeze' command")
        say("INFO: starting backup via QMP command")
        say("INFO: issuing guest-agent 'fs-thaw' command")
    say(f"INFO: started backup task '{cluster.new_uuid()}'")
    if was_running:
        say("INFO: resuming VM again")
    seconds = size / GIB * cluster.durations.backup_seconds_per_gib
    if params.get("bwlimit"):
        seconds = max(seconds, size / 1024 / params["bwlimit"])
    rounds = max(1, int(seconds // 3))
    try:
        for step in range(1, rounds + 1):
            yield Sleep(seconds / rounds)
            share, passed = 100 * step // rounds, max(1, int(seconds * step / rounds))
            done = human(size * step // rounds)
            say(
                f"INFO: {share:3d}% ({done} of {human(size)}) in {passed}s, read: {human(size / max(passed, 1))}/s, write: 0 B/s"
            )
    except Interrupted:
        raise die("interrupted by signal") from None
    say(f"INFO: backup is sparse: {size / 2**20 * 0.67:.2f} MiB (67%) total zero data")
    say(
        f"INFO: transferred {size / 2**20:.2f} MiB in {max(1, int(seconds))} seconds ({human(size / max(1, seconds))}/s)"
    )
    if not was_running and guest.kind == "qemu":
        say("INFO: stopping kvm after backup task")
    say(f"INFO: archive file size: {size // 3 // 2**20}MB")
    if not was_running and guest.kind == "qemu":
        # Unlocking waits for qm cleanup, which QEMU's end has started.
        say("trying to acquire lock...")
        say(" OK")
    place = cluster.storages.place(target, guest.node)
    made = Volume(volid, size // 3, extension, "backup", vmid, int(cluster.now - seconds), used=size // 3)
    cluster.storages.volumes[place, volid] = made
    cluster.archives[volid] = (guest.config | {"name": name}, guest.kind)
    if guest.config.get("lock") == "backup":
        del cluster.archives[volid][0]["lock"]


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
    volume = cluster.storages.find(call.node, archive)
    vmid = int(call.params["vmid"])
    cluster.access.check_volume(call.authid, vmid, archive, "backup", volume.vmid if volume else None, "backup")
    return archive


def restore(call: Call, task: Task, guest: Guest, old: Config, overrides: Config) -> Steps[None]:
    """The body of qmrestore. Raises ApiError; then the VM stays, without the lock."""
    cluster, params, vmid, archive = call.cluster, call.params, guest.vmid, call.params["archive"]
    try:
        with (yield from cluster.config_lock(guest.node, vmid).acquire(1.0, log=task.log)):
            if old.get("protection") == "1":
                raise die(f"unable to restore VM {vmid} - protection mode enabled")
            yield from _extract(call, task, guest, old, overrides)
    except ApiError:
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
        from .qemu_create import autostart

        yield from autostart(call, task)
    assert archive


def _extract(call: Call, task: Task, guest: Guest, old: Config, overrides: Config) -> Steps[None]:
    cluster, params, archive = call.cluster, call.params, call.params["archive"]
    storages = cluster.storages
    if archive not in cluster.archives or storages.find(guest.node, archive) is None:
        raise die(f"volume '{archive}' does not exist")
    config = dict(cluster.archives[archive][0])
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
    ]
    for number, (option, drive) in enumerate(drives, 1):
        task.log(f"DEV: dev_id={number} size: {_bytes(drive)} devname: drive-{option}")
    task.log(time.strftime("CTIME: %a %b %e %H:%M:%S %Y", time.gmtime(cluster.now)).replace("  ", " "))
    for volid in volume_options(guest, old).values():
        if qemu_pending.owned(cluster, guest, volid):
            yield from storages.free(guest.node, volid)
    total = sum(_bytes(drive) for _option, drive in drives)
    for option, drive in drives:
        target = params.get("storage") or split_volid(drive["file"])[0]
        volume = yield from storages.allocate(guest.node, target, guest.vmid, _bytes(drive), task=task)
        task.log(f"new volume ID is '{volume.volid}'")
        task.log(f"map 'drive-{option}' to '{storages.path(volume.volid)}' (write zeros = 0)")
        config[option] = show_drive({**drive, "file": volume.volid, "size": format_size(volume.size)})
    for option, value in sorted(config.items()):
        if is_drive(option) and is_cloudinit(parse_drive(option, value)):
            guest.config = {"lock": "create"}
            fresh = f"{params.get('storage') or value.partition(':')[0]}:cloudinit"
            config[option] = yield from qemu_disks.create(cluster, guest, option, fresh, task, [])
    for share in range(1, 101):
        yield Sleep(total / GIB * cluster.durations.clone_seconds_per_gib / 100)
        task.log(f"progress {share}% (read {total * share // 100} bytes, duration {int(cluster.now - task.start)} sec)")
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
