# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power: start, stop, shutdown, reboot, reset, suspend, resume, and what qmeventd does when a guest ends.

Sources: qemu-server, PVE/API2/Qemu.pm (vm_start to vm_resume), PVE/QemuServer.pm (vm_start, _do_vm_stop, vm_reboot),
PVE/QemuServer/RunState.pm, PVE/QemuServer/Helpers.pm (config_aware_timeout), PVE/CLI/qm.pm (cleanup).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import qemu_disks, qemu_pending
from .clock import Sleep, Steps
from .http import ApiError, bad_parameters, die
from .model import MIB, Guest, Power
from .propstring import NET, parse
from .qemu_disks import check_lock
from .qemu_status import agent_enabled, memory
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

GUEST = "qemu"
ROOT_START = (
    "stateuri", "skiplock", "migratedfrom", "migration_type", "migration_network", "targetstorage", "force-cpu",
    "with-conntrack-state", "nets-host-mtu",
)  # fmt: skip


def find(cluster: Cluster, node: str, vmid: int) -> Guest:
    """A VM as check_running looks for it (QemuConfig.pm, assert_config_exists_on_node). Raises ApiError."""
    guest = cluster.guests.get(vmid)
    if guest is None or guest.kind != "qemu" or guest.node != node:
        raise die(f"unable to find configuration file for VM {vmid} on node '{node}'")
    return guest


# ---------------------------------------------------------------------------------------------------------------------
# What happens in tasks


def start(cluster: Cluster, node: str, vmid: int, task: Task, *, skiplock: bool = False) -> Steps[None]:
    """vm_start. Raises ApiError."""
    with (yield from cluster.lock_config(node, vmid, task.log)):
        guest = cluster.guest("qemu", node, vmid)
        if guest.template:
            raise die("you can't start a vm if it's a template")
        suspended = guest.config.get("lock") == "suspended"
        if guest.config.get("lock") == "backup" and guest.power is not None:
            guest.power.qmp = "running"
            return
        if not skiplock and not suspended:
            check_lock(guest)
        if guest.running:
            raise die(f"VM {vmid} already running")
        yield from start_unlocked(cluster, guest, task, resume=suspended or "vmstate" in guest.config)


def start_unlocked(cluster: Cluster, guest: Guest, task: Task, *, resume: bool = False) -> Steps[None]:
    """vm_start_nolock: what is pending is applied, then QEMU runs. Raises ApiError."""
    config = guest.config
    state = config.get("vmstate")
    if resume:
        task.log("Resuming suspended VM")
        for option in ("runningmachine", "runningcpu"):
            config.pop(option, None)
    elif guest.pending or guest.pending_delete:
        yield from qemu_pending.apply_cold(cluster, guest, task)
    yield from qemu_disks.regenerate(cluster, guest, task)
    for option in sorted(config):
        if option.startswith("net") and option[3:].isdigit():
            bridge = parse(NET, config[option]).get("bridge")
            if bridge and bridge not in cluster.nodes[guest.node].bridges:
                raise die(f"bridge '{bridge}' does not exist")
    for option, drive in qemu_pending.drives(guest):
        if drive.get("iothread") == "1" and option.startswith("scsi") and config.get("scsihw") != "virtio-scsi-single":
            task.warn("iothread is only valid with virtio disk or virtio-scsi-single controller, ignoring")
        name = drive.get("file", "none")
        if ":" in name and cluster.storages.find(guest.node, name) is None:
            cluster.storages.get(guest.node, name)
    if guest.behaviour.start_warning:
        task.warn(guest.behaviour.start_warning)
    yield Sleep(cluster.durations.start)
    if guest.behaviour.start_error:
        raise die(guest.behaviour.start_error)
    needed = memory(config)
    free = cluster.nodes[guest.node].maxmem - sum(
        memory(other.config) for other in cluster.guests.values() if other.node == guest.node and other.power
    )
    if needed > free:
        text = "start failed: QEMU exited with code 1"
        task.log(f"kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory ({needed // MIB} MiB)")
        raise die(text)
    if resume and state:
        nets = [option for option in sorted(config) if option.startswith("net") and option[3:].isdigit()]
        for option in nets:
            task.log(f"netdev {option}: using 'host_mtu=1500' for migration compat")
        task.log(f"activating and using '{state}' as vmstate")
        yield Sleep(0.5)
    guest.power = Power(cluster.next_pid(guest.node), cluster.now)
    guest.cloudinit = {}
    cluster.touched(guest.vmid)
    if resume:
        config.pop("lock", None)
        if state:
            config.pop("vmstate", None)
            config.pop("running-nets-host-mtu", None)
            task.log("Resumed VM, removing state")
            yield from cluster.storages.free(guest.node, state)
        cluster.write(guest)


def ended(cluster: Cluster, guest: Guest) -> None:
    """The process of a guest has ended: qmeventd runs `qm cleanup`, which starts it again after a reboot."""
    vmid, node = guest.vmid, guest.node
    guest.power = None
    cluster.touched(vmid)
    reboot, guest.reboot_flag = guest.reboot_flag, False

    def cleanup() -> None:
        again = cluster.guests.get(vmid)
        if again is None or again.node != node:
            return
        if again.running:
            # qm cleanup waits for the guest to end, with the lock held: it runs again already.
            def wait() -> Steps[None]:
                with (yield from cluster.lock_config(node, vmid, seconds=60.0)):
                    yield Sleep(cluster.durations.cleanup_lock)

            cluster.scheduler.spawn(wait())
            return
        if reboot:
            cluster.tasks.start(node, "qmstart", vmid, "root@pam", lambda task: start(cluster, node, vmid, task))

    cluster.scheduler.after(cluster.durations.restart if reboot else cluster.durations.cleanup_delay, cleanup)


def halt(
    cluster: Cluster,
    guest: Guest,
    task: Task,
    *,
    graceful: bool,
    force: bool,
    timeout: float | None = None,
    skiplock: bool = False,
) -> Steps[None]:
    """_do_vm_stop, with the configuration's lock held. Raises ApiError."""
    if guest.power is None:
        return
    if not skiplock:
        check_lock(guest)
    if timeout is None and graceful:
        for part in guest.config.get("startup", "").split(","):
            if part.startswith("down="):
                timeout = float(part.removeprefix("down="))
    timeout = 60.0 if timeout is None else timeout
    behaviour, durations = guest.behaviour, cluster.durations
    obeys = (behaviour.acpi or agent_answers(cluster, guest)) if graceful else True
    needs = behaviour.shutdown_seconds if graceful else durations.stop
    if needs < timeout and (not graceful or (obeys and guest.power.qmp == "running")):
        yield Sleep(needs)
        yield from stopped(cluster, guest, task)
        return
    yield Sleep(timeout)
    if guest.power is None:
        return
    if not force:
        raise die("VM quit/powerdown failed - got timeout")
    task.log("VM still running - terminating now with SIGTERM")
    yield Sleep(durations.stop)
    yield from stopped(cluster, guest, task)


def stopped(cluster: Cluster, guest: Guest, task: Task) -> Steps[None]:
    """vm_stop_cleanup: pending changes are applied when the guest was stopped by the API."""
    ended(cluster, guest)
    if guest.pending or guest.pending_delete:
        yield from qemu_pending.apply_cold(cluster, guest, task)


def agent_answers(cluster: Cluster, guest: Guest) -> bool:
    """Whether the guest agent is configured, installed and up."""
    power = guest.power
    if power is None or not agent_enabled(guest.config) or not guest.behaviour.agent:
        return False
    return power.qmp == "running" and cluster.now - power.booted >= guest.behaviour.boot_seconds


def paused(guest: Guest | None) -> bool:
    """vm_is_paused."""
    return guest is not None and guest.power is not None and guest.power.qmp in ("paused", "prelaunch", "suspended")


# ---------------------------------------------------------------------------------------------------------------------
# Endpoints


def vm_start(call: Call) -> str:
    """POST .../status/start."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    call.root_only(*ROOT_START)
    cluster.need_quorum()
    skiplock = bool(call.params.get("skiplock"))
    if cluster.ha_managed(vmid):
        return str(cluster.ha.queue(call, "hastart", "start", state="started"))
    return call.task("qmstart", vmid, lambda task: start(cluster, node, vmid, task, skiplock=skiplock))


def vm_stop(call: Call) -> str:
    """POST .../status/stop."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    call.root_only("skiplock", "keepActive", "migratedfrom")
    overrule = bool(params.get("overrule-shutdown"))
    if cluster.ha_managed(vmid):
        if overrule:
            raise bad_parameters({"overrule-shutdown": "Not applicable for HA resources."})
        return str(cluster.ha.queue(call, "hastop", "stop", state="stopped"))

    def body(task: Task) -> Steps[None]:
        if overrule:
            overruled = [
                other
                for other in cluster.tasks.running(node)
                if other.type == "qmshutdown" and other.id == str(vmid) and _may_abort(call, other)
            ]
            for other in overruled:
                assert other.process is not None
                other.process.interrupt()
            if overruled:
                task.log(f"overruled qmshutdown tasks: {', '.join(other.upid for other in overruled)}")
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = find(cluster, node, vmid)
            yield from halt(
                cluster,
                guest,
                task,
                graceful=False,
                force=True,
                timeout=params.get("timeout"),
                skiplock=bool(params.get("skiplock")),
            )

    return call.task("qmstop", vmid, body)


def _may_abort(call: Call, task: Task) -> bool:
    """Own tasks, and others' with Sys.Modify (GuestHelpers.pm, abort_guest_tasks)."""
    return task.authid == call.authid or task.user == call.authid or call.allowed("/", "Sys.Modify")


def vm_shutdown(call: Call) -> str:
    """POST .../status/shutdown."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    call.root_only("skiplock", "keepActive")
    graceful, force = True, bool(params.get("forceStop"))
    guest = cluster.guests.get(vmid)
    if guest is not None and guest.node == node and paused(guest):
        if not force:
            raise die("VM is paused - cannot shutdown")
        graceful = False
    if cluster.ha_managed(vmid):
        return str(cluster.ha.queue(call, "hastop", "stop", timeout=params.get("timeout", 60)))

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            yield from halt(
                cluster,
                find(cluster, node, vmid),
                task,
                graceful=graceful,
                force=force or not graceful,
                timeout=params.get("timeout"),
                skiplock=bool(params.get("skiplock")),
            )

    return call.task("qmshutdown", vmid, body)


def vm_reboot(call: Call) -> str:
    """POST .../status/reboot: the task ends when QEMU has ended; qmeventd starts it again."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    guest = find(cluster, node, vmid)
    if paused(guest):
        raise die("VM is paused - cannot shutdown")
    if not guest.running:
        raise die(f"VM {vmid} not running")

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = find(cluster, node, vmid)
            if not guest.running:
                return
            guest.reboot_flag = True
            try:
                yield from halt(cluster, guest, task, graceful=True, force=False, timeout=params.get("timeout"))
            except ApiError:
                guest.reboot_flag = False
                raise

    return call.task("qmreboot", vmid, body)


def vm_reset(call: Call) -> str:
    """POST .../status/reset."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    call.root_only("skiplock")
    if not find(cluster, node, vmid).running:
        raise die(f"VM {vmid} not running")

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = cluster.guest("qemu", node, vmid)
            if not call.params.get("skiplock"):
                check_lock(guest)
            if guest.power is None:
                raise die(f"VM {vmid} not running")

    return call.task("qmreset", vmid, body)


def vm_suspend(call: Call) -> str:
    """POST .../status/suspend: pause, or hibernate with `todisk`."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    call.root_only("skiplock")
    skiplock, todisk = bool(params.get("skiplock")), bool(params.get("todisk"))
    guest = find(cluster, node, vmid)
    if not guest.running:
        raise die(f"VM {vmid} not running")
    if todisk and cluster.ha_managed(vmid):
        raise die("Cannot suspend HA managed VM to disk")
    state_storage = ""
    if todisk:
        cluster.access.check_guest(call.authid, vmid, None, ["VM.Config.Disk"])
        if any(option.startswith("hostpci") for option in guest.config):
            raise die(
                "cannot suspend VM to disk due to passed-through PCI device(s), which lack the"
                " possibility to save/restore their internal state"
            )
        state_storage = params.get("statestorage") or vmstate_storage(cluster, guest)
        call.check(f"/storage/{state_storage}", "Datastore.AllocateSpace")

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = cluster.guest("qemu", node, vmid)
            backing_up = guest.config.get("lock") == "backup"
            if not (skiplock or backing_up):
                check_lock(guest)
            if backing_up and todisk:
                raise die("cannot suspend to disk during backup")
            if guest.power is None:
                raise die(f"VM {vmid} not running")
            if not todisk:
                guest.power.qmp = "paused"
                cluster.touched(vmid)
                return
            guest.config["lock"] = "suspending"
            name = f"suspend-{time.strftime('%Y-%m-%d', time.gmtime(cluster.now))}"
            volume = yield from save_state(cluster, guest, name, state_storage, task)
            guest.config["runningmachine"] = guest.power.machine
            guest.config["vmstate"] = volume
            cluster.write(guest)
        yield Sleep(1.0)
        task.log("State saved, quitting")
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = cluster.guest("qemu", node, vmid)
            if guest.config.get("lock") != "suspending":
                raise die("lock changed unexpectedly")
            guest.power = None
            guest.config["lock"] = "suspended"
            cluster.write(guest)

    return call.task("qmsuspend" if todisk else "qmpause", vmid, body)


def vmstate_storage(cluster: Cluster, guest: Guest) -> str:
    """Where the RAM goes: as configured, else a shared storage of the guest's disks, else any of them (find_vmstate_storage)."""
    if "vmstatestorage" in guest.config:
        return guest.config["vmstatestorage"]
    names = [
        drive["file"].partition(":")[0] for _option, drive in qemu_pending.drives(guest) if ":" in drive.get("file", "")
    ]
    known = [cluster.storages.all[name] for name in names if name in cluster.storages.all]
    shared = [storage.name for storage in known if storage.shared]
    return next(iter(shared or [storage.name for storage in known]), "local")


def save_state(cluster: Cluster, guest: Guest, name: str, storage: str, task: Task) -> Steps[str]:
    """Allocate a volume for the RAM (QemuConfig.pm, __snapshot_save_vmstate). Returns its id."""
    size = memory(guest.config) * 2 + 500 * MIB
    form = "raw"
    target = cluster.storages.enabled(storage, guest.node)
    volname = f"vm-{guest.vmid}-state-{name}" + (".raw" if target.has_files else "")
    volume = yield from cluster.storages.allocate(
        guest.node, storage, guest.vmid, size, form, task=task, volname=volname
    )
    return volume.volid


def vm_resume(call: Call) -> Steps[str]:
    """POST .../status/resume."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    call.root_only("skiplock", "nocheck")
    skiplock = bool(call.params.get("skiplock"))
    suspended = False
    try:
        with (yield from cluster.lock_config(node, vmid)):
            suspended = cluster.guest("qemu", node, vmid).config.get("lock") == "suspended"
    except ApiError:
        pass
    guest = cluster.guests.get(vmid)
    if not suspended:
        if guest is not None:
            find(cluster, node, vmid)
        if guest is None or not guest.running:
            raise die(f"VM {vmid} not running")

    def body(task: Task) -> Steps[None]:
        if suspended:
            yield from start(cluster, node, vmid, task, skiplock=skiplock)
            return
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = cluster.guest("qemu", node, vmid)
            if guest.power is None:
                raise die(f"VM {vmid} not running")
            if guest.power.qmp == "running":
                return
            if not skiplock and guest.config.get("lock") != "backup":
                check_lock(guest)
            guest.power.qmp = "running"
            cluster.touched(vmid)

    return call.task("qmresume", vmid, body)


_STATUS = "/nodes/{node}/qemu/{vmid}/status"
ROUTES = {
    ("POST", f"{_STATUS}/start"): vm_start,
    ("POST", f"{_STATUS}/stop"): vm_stop,
    ("POST", f"{_STATUS}/shutdown"): vm_shutdown,
    ("POST", f"{_STATUS}/reboot"): vm_reboot,
    ("POST", f"{_STATUS}/reset"): vm_reset,
    ("POST", f"{_STATUS}/suspend"): vm_suspend,
    ("POST", f"{_STATUS}/resume"): vm_resume,
}
