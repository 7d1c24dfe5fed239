"""What each module is asked to do, once for every kind of deed it knows. The promises are tested over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.simulator import Cluster, Request
from tests.simulator.engine.agent import inside_of
from tests.simulator.engine.model import GIB, Volume
from tests.simulator.engine.transfer import WebFile, put_on_web


def nothing(cluster: Cluster) -> None:
    """Leave the usual cluster as it is."""


@dataclass(frozen=True)
class Scenario:
    """One thing asked of one module.

    :param touches: guests and keys of their configuration that may differ afterwards, beside power and snapshots.
    :param changes: whether there is anything to do.
    :param again: why a second run acts again; empty for everything that is a state.
    :param once: why a run whose request has lost its answer says so and ends; empty where it finds out.
    """

    module: str
    name: str
    options: Mapping[str, Any]
    touches: Mapping[int, frozenset[str]] = field(default_factory=dict)
    setup: Callable[[Cluster], None] = nothing
    changes: bool = True
    again: str = ""
    once: str = ""

    def __str__(self) -> str:
        return f"{self.module.removeprefix('proxmox_')}-{self.name}"


ANYTHING = frozenset({"*"})


def keys(*names: str) -> frozenset[str]:
    return frozenset(names)


def paused(cluster: Cluster) -> None:
    power = cluster.guests[100].power
    assert power is not None
    power.qmp = "paused"


def stubborn(cluster: Cluster) -> None:
    """The guest ignores the power button."""
    cluster.guests[100].behaviour.acpi = False
    cluster.guests[100].behaviour.agent = False


def container(cluster: Cluster) -> None:
    cluster.add_ct(200, "box", running=True)


def container_with_snapshot(cluster: Cluster) -> None:
    container(cluster)
    cluster.add_snapshot(200, "now")


def managed(cluster: Cluster, vmid: int, state: str) -> None:
    """Put a guest under high availability and let that settle."""
    body = urlencode({"sid": f"vm:{vmid}", "state": state}).encode()
    headers = {**cluster.token_header(), "Content-Type": "application/x-www-form-urlencoded"}
    answer = cluster.handle(Request("POST", "/api2/json/cluster/ha/resources", headers, body))
    assert answer.status == 200, answer.reason
    cluster.clock.advance(60.0)
    cluster.log.clear()


def managed_running(cluster: Cluster) -> None:
    cluster.add_vm(110, "ha", disk="shared:2", running=True)
    managed(cluster, 110, "started")


def managed_stopped(cluster: Cluster) -> None:
    cluster.add_vm(110, "ha", disk="shared:2")
    managed(cluster, 110, "stopped")


def tagged(cluster: Cluster) -> None:
    """Two guests of production, one that runs and one that does not."""
    cluster.guests[101].config["tags"] = "prod"
    cluster.clock.advance(30.0)


def movable(cluster: Cluster) -> None:
    without_snapshots(cluster)
    container(cluster)


# On virtual time there are no threads.
ONE_BY_ONE = {"parallel": 1}


def fleets() -> list[Scenario]:
    """Several guests at once, by each of the selectors."""
    power, config, snapshot, migrate = "proxmox_vm_power", "proxmox_vm_config", "proxmox_snapshot", "proxmox_migrate"
    prod = {"vmids": [100, 101], "with_tags": ["prod"], **ONE_BY_ONE}
    cores = keys("cores")
    return [
        Scenario(power, "fleet-start", {"names": ["db", "moved"], "state": "started", **ONE_BY_ONE}),
        Scenario(power, "fleet-stop-some", {**prod, "state": "stopped", "force": "now"}, setup=tagged),
        Scenario(power, "fleet-started", {"tags": ["PROD"], "state": "started", **ONE_BY_ONE}, changes=False),
        Scenario(
            power,
            "fleet-status",
            {"pools": ["pr*"], "status": ["running", "paused"], "state": "paused", **ONE_BY_ONE},
        ),
        Scenario(power, "fleet-none", {"names": ["~x"], "state": "stopped", "allow_none": True}, changes=False),
        Scenario(
            config,
            "fleet",
            {"names": ["web", "db", "moved"], "cores": 2, "tags": ["x"], **ONE_BY_ONE},
            {100: keys("tags"), 101: keys("cores", "tags"), 102: keys("cores", "tags")},
        ),
        Scenario(
            config,
            "fleet-kinds",
            {"vmids": [100, 101, 200], "description": "one of many", "onboot": True, **ONE_BY_ONE},
            {vmid: keys("description", "onboot") for vmid in (100, 101, 200)},
            setup=container,
        ),
        Scenario(
            config,
            "fleet-template",
            {"nodes": ["pve1"], "template": True, "vmids": [9000], "cores": 4, **ONE_BY_ONE},
            {9000: cores},
        ),
        Scenario(config, "fleet-nothing", {"with_tags": ["web"], "pool": "prod", **ONE_BY_ONE}, changes=False),
        Scenario(
            snapshot, "fleet", {**prod, "snapname": "now"}, {100: keys("parent"), 101: keys("parent")}, setup=tagged
        ),
        Scenario(snapshot, "fleet-gone", {**prod, "snapname": "now", "state": "absent"}, setup=tagged, changes=False),
        Scenario(
            migrate,
            "fleet",
            {"names": ["db", "moved", "box"], "target_node": "pve3", **ONE_BY_ONE},
            setup=movable,
        ),
    ]


def clones() -> list[Scenario]:
    name = "proxmox_vm_clone"
    return [
        Scenario(name, "next-vmid", {"source": "debian", "name": "new"}, {103: ANYTHING}),
        Scenario(name, "linked", {"source": "9000", "vmid": 150, "name": "new"}, {150: ANYTHING}),
        Scenario(name, "full", {"source": "9000", "vmid": 150, "full": True, "storage": "local-lvm"}, {150: ANYTHING}),
        Scenario(name, "pool", {"source": "9000", "name": "new", "pool": "test", "description": "x"}, {103: ANYTHING}),
        Scenario(name, "shared", {"source": "9001", "name": "new", "target_node": "pve2"}, {103: ANYTHING}),
        Scenario(name, "auto", {"source": "9001", "name": "new", "target_node": "auto"}, {103: ANYTHING}),
        Scenario(name, "auto-there", {"source": "9001", "name": "web", "target_node": "auto"}, changes=False),
        Scenario(
            name, "local-moved", {"source": "9000", "name": "new", "full": True, "target_node": "pve2"}, {103: ANYTHING}
        ),
        Scenario(
            name, "snapshot", {"source": "db", "name": "new", "snapname": "before", "full": True}, {103: ANYTHING}
        ),
        Scenario(name, "there", {"source": "debian", "name": "web"}, changes=False),
        Scenario(name, "there-both", {"source": "debian", "name": "web", "vmid": 100}, changes=False),
    ]


def powers() -> list[Scenario]:
    name = "proxmox_vm_power"
    suspended = keys("lock", "vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu")
    return [
        Scenario(name, "start", {"vmid": 101, "state": "started"}),
        Scenario(name, "started", {"vmid": 100, "state": "started"}, changes=False),
        Scenario(name, "resume", {"name": "web", "state": "started"}, setup=paused),
        Scenario(name, "shutdown", {"name": "web", "state": "stopped"}),
        Scenario(
            name,
            "shutdown-forced",
            {"name": "web", "state": "stopped", "force": "after_timeout", "shutdown_timeout": 10},
            setup=stubborn,
        ),
        Scenario(name, "stop", {"vmid": 100, "node": "pve1", "state": "stopped", "force": "now"}),
        Scenario(name, "stopped", {"name": "db", "state": "stopped"}, changes=False),
        Scenario(name, "pause", {"vmid": 100, "state": "paused"}),
        Scenario(name, "hibernate", {"vmid": 100, "state": "hibernated"}, {100: suspended}),
        Scenario(name, "restart", {"vmid": 100, "state": "restarted"}, again="restarting is a deed, not a state"),
        Scenario(
            name,
            "restart-forced",
            {"vmid": 100, "state": "restarted", "force": "now"},
            again="restarting is a deed, not a state",
        ),
        Scenario(name, "reset", {"vmid": 100, "state": "reset"}, again="a reset is a deed, not a state"),
        Scenario(name, "ha-start", {"vmid": 110, "state": "started"}, setup=managed_stopped),
        Scenario(name, "ha-started", {"vmid": 110, "state": "started"}, setup=managed_running, changes=False),
        Scenario(name, "ha-stop", {"name": "ha", "state": "stopped"}, setup=managed_running),
        Scenario(name, "ha-stop-now", {"name": "ha", "state": "stopped", "force": "now"}, setup=managed_running),
        Scenario(
            name,
            "ha-restart-forced",
            {"vmid": 110, "state": "restarted", "force": "now"},
            setup=managed_running,
            again="restarting is a deed, not a state",
        ),
        Scenario(name, "start-reach", {"vmid": 101, "state": "started", "wait_for": "ip"}, setup=reachable),
        Scenario(name, "started-reach", {"vmid": 100, "state": "started", "wait_for": "agent"}, changes=False),
        Scenario(
            name,
            "restart-reach",
            {"vmid": 100, "state": "restarted", "wait_for": "ip"},
            again="restarting is a deed, not a state",
        ),
        Scenario(
            name,
            "container-reach",
            {"vmid": 200, "state": "started", "wait_for": "ip"},
            setup=container_with_address,
            changes=False,
        ),
        Scenario(name, "container-stop", {"name": "box", "state": "stopped"}, setup=container),
        Scenario(
            name,
            "container-restart",
            {"vmid": 200, "state": "restarted"},
            setup=container,
            again="restarting is a deed, not a state",
        ),
    ]


def configs() -> list[Scenario]:
    name = "proxmox_vm_config"
    return [
        Scenario(name, "cores", {"vmid": 101, "cores": 4, "memory": 2048}, {101: keys("cores", "memory")}),
        Scenario(name, "cores-running", {"name": "web", "cores": 4}, {100: keys("cores")}),
        Scenario(name, "tags", {"name": "db", "tags": ["Blue", "alpha"]}, {101: keys("tags")}),
        Scenario(name, "description", {"vmid": 101, "description": "two\nlines\n"}, {101: keys("description")}),
        Scenario(name, "net-merge", {"vmid": 101, "net": {"net0": {"tag": 20}}}, {101: keys("net0")}),
        Scenario(name, "net-new", {"vmid": 101, "net": {"net1": {"bridge": "vmbr0"}}}, {101: keys("net1", "boot")}),
        Scenario(name, "grow", {"vmid": 101, "disks": {"scsi0": {"size": "12G"}}}, {101: keys("scsi0")}),
        Scenario(
            name,
            "grow-and-more",
            {"vmid": 101, "cores": 2, "disks": {"scsi0": {"size": "12G", "discard": True}}},
            {101: keys("scsi0", "cores")},
        ),
        Scenario(
            name,
            "new-disk",
            {"vmid": 101, "disks": {"scsi1": {"storage": "local-lvm", "size": 4}}},
            {101: keys("scsi1", "boot")},
        ),
        Scenario(
            name, "remove", {"vmid": 100, "absent": ["ciuser", "description"]}, {100: keys("ciuser", "description")}
        ),
        Scenario(name, "rename", {"vmid": 101, "name": "database"}, {101: keys("name")}),
        Scenario(name, "options", {"vmid": 101, "options": {"hotplug": "disk,network"}}, {101: keys("hotplug")}),
        Scenario(name, "pool", {"vmid": 101, "pool": "test"}),
        Scenario(name, "pool-move", {"vmid": 100, "pool": "test"}),
        Scenario(name, "nothing", {"vmid": 100, "cores": 2, "tags": ["web", "prod"], "onboot": True}, changes=False),
        Scenario(
            name,
            "reboot",
            {"vmid": 100, "cores": 4, "reboot": "if_required"},
            {100: keys("cores")},
        ),
        Scenario(
            name,
            "container",
            {"name": "box", "cores": 2, "memory": 1024, "tags": ["x"]},
            {200: keys("cores", "memory", "tags")},
            setup=container,
        ),
    ]


def snapshots() -> list[Scenario]:
    name = "proxmox_snapshot"
    return [
        Scenario(name, "create", {"vmid": 100, "snapname": "now", "description": "x"}, {100: keys("parent")}),
        Scenario(name, "create-memory", {"vmid": 100, "snapname": "now", "vmstate": True}, {100: keys("parent")}),
        Scenario(name, "describe", {"name": "db", "snapname": "before", "description": "changed"}),
        Scenario(name, "there", {"name": "db", "snapname": "before"}, changes=False),
        Scenario(name, "delete", {"vmid": 101, "snapname": "before", "state": "absent"}),
        Scenario(name, "gone", {"vmid": 101, "snapname": "other", "state": "absent"}, changes=False),
        Scenario(
            name,
            "rollback",
            {"vmid": 101, "snapname": "after", "state": "rollback"},
            {101: keys("vmgenid")},
            again="going back is a deed: what was written since is not visible to the server",
        ),
        Scenario(
            name,
            "rollback-start",
            {"vmid": 101, "snapname": "after", "state": "rollback", "start": True},
            {101: keys("vmgenid")},
            again="going back is a deed",
        ),
        Scenario(name, "keep", {"vmid": 101, "snapname": "third", "keep": 1, "pattern": "*"}, {101: keys("parent")}),
        Scenario(name, "thin-out", {"vmid": 101, "keep": 1, "pattern": "*e*"}, {101: keys("parent")}),
        Scenario(name, "container", {"name": "box", "snapname": "now", "description": "x"}, setup=container),
        Scenario(
            name,
            "container-rollback",
            {"name": "box", "snapname": "now", "state": "rollback", "start": True},
            setup=container_with_snapshot,
            again="going back is a deed",
        ),
    ]


def migrations() -> list[Scenario]:
    name = "proxmox_migrate"
    return [
        Scenario(name, "offline", {"vmid": 102, "target_node": "pve3"}),
        Scenario(name, "offline-local", {"vmid": 101, "target_node": "pve2"}, setup=without_snapshots),
        Scenario(
            name,
            "online-local",
            {"name": "web", "target_node": "pve2", "with_local_disks": True},
        ),
        Scenario(
            name,
            "other-storage",
            {"vmid": 101, "target_node": "pve2", "target_storage": {"local-lvm": "local"}},
            {101: keys("scsi0")},
            setup=without_snapshots,
        ),
        Scenario(name, "container", {"name": "box", "target_node": "pve2", "shutdown_timeout": 30}, setup=container),
        Scenario(name, "there", {"vmid": 102, "target_node": "pve2"}, changes=False),
        Scenario(name, "auto", {"vmid": 102, "target_node": "auto", "exclude_nodes": ["pve2"]}),
        Scenario(
            name, "auto-there", {"vmid": 102, "target_node": "auto", "exclude_nodes": ["pve1", "pve3"]}, changes=False
        ),
        Scenario(
            name,
            "auto-ha",
            {"vmid": 110, "target_node": "auto", "exclude_nodes": ["pve1", "pve3"]},
            setup=managed_running,
        ),
        Scenario(name, "ha-running", {"vmid": 110, "target_node": "pve2"}, setup=managed_running),
        Scenario(name, "ha-stopped", {"vmid": 110, "target_node": "pve3"}, setup=managed_stopped),
        Scenario(name, "container", {"vmid": 200, "target_node": "pve2"}, setup=container),
    ]


def reachable(cluster: Cluster) -> None:
    """The stopped guest has an agent."""
    cluster.guests[101].config["agent"] = "1"


def container_with_address(cluster: Cluster) -> None:
    cluster.add_ct(200, "box", running=True, config={"net0": "name=eth0,bridge=vmbr0,ip=dhcp"})


def ready(cluster: Cluster) -> None:
    cluster.guests[100].inside.files["/srv/ready"] = b"as it should be\n"


def frozen(cluster: Cluster) -> None:
    inside_of(cluster.guests[100]).frozen = True


def agents() -> list[Scenario]:
    name, once = "proxmox_agent", "a program leaves no trace by which one could see whether it was started"
    ran = {"vmid": 100, "action": "exec"}
    written = {"vmid": 100, "action": "write", "path": "/srv/ready", "content": "as it should be\n"}
    return [
        Scenario(name, "ping", {"name": "web", "action": "ping"}, changes=False),
        Scenario(name, "info", {"vmid": 100, "action": "info"}, changes=False),
        Scenario(name, "interfaces", {"vmid": 100, "action": "interfaces"}, changes=False),
        Scenario(
            name,
            "container",
            {"vmid": 200, "action": "interfaces"},
            setup=container_with_address,
            changes=False,
        ),
        Scenario(name, "exec", {**ran, "cmd": "echo Ä"}, again="running a program is a deed", once=once),
        Scenario(name, "exec-creates", {**ran, "cmd": "touch /srv/ready", "creates": "/srv/ready"}, once=once),
        Scenario(
            name, "exec-removes", {**ran, "cmd": "rm /srv/ready", "removes": "/srv/ready"}, setup=ready, once=once
        ),
        Scenario(name, "exec-created", {**ran, "cmd": "false", "creates": "/srv"}, changes=False),
        Scenario(name, "read", {"vmid": 100, "action": "read", "path": "/srv/ready"}, setup=ready, changes=False),
        Scenario(name, "write", written),
        Scenario(name, "write-over", {**written, "content": "grüße\n"}, setup=ready),
        Scenario(name, "write-nothing", {**written, "content": ""}, setup=ready),
        Scenario(name, "written", written, setup=ready, changes=False),
        Scenario(name, "freeze", {"vmid": 100, "action": "freeze"}),
        Scenario(name, "frozen", {"vmid": 100, "action": "freeze"}, setup=frozen, changes=False),
        Scenario(name, "thaw", {"vmid": 100, "action": "thaw"}, setup=frozen),
        Scenario(name, "trim", {"vmid": 100, "action": "trim"}, again="which blocks are trimmed nobody tells"),
        Scenario(
            name,
            "password",
            {"vmid": 100, "action": "password", "username": "root", "password": "geheim"},
            again="a password cannot be compared",
        ),
    ]


# What somebody else's tasks are called here; they were started before the cluster's time began.
ENDED = "UPID:pve1:00000321:00065374:6AFFAB00:vzdump:100:backup@pve:"
UNDER_WAY = "UPID:pve2:00000322:00065375:6AFFAB01:qmigrate:102:backup@pve:"
HANGING = "UPID:pve2:00000323:00065376:6AFFAB02:vzdump::backup@pve:"


def with_tasks(cluster: Cluster) -> None:
    cluster.tasks.put(ENDED, status="job errors", lines=["INFO: starting new backup job"])
    cluster.tasks.put(UNDER_WAY, seconds=20.0)
    cluster.tasks.put(HANGING, seconds=86400.0)


def with_lock(cluster: Cluster) -> None:
    with_tasks(cluster)
    cluster.set_lock(101, "backup")


def servers_tasks() -> list[Scenario]:
    name, looking = "proxmox_task", "proxmox_task_info"
    return [
        Scenario(
            name,
            "finished",
            {"upid": UNDER_WAY, "state": "finished", "fail_on_error": False},
            setup=with_tasks,
            changes=False,
        ),
        Scenario(
            name,
            "failed",
            {"upid": ENDED, "state": "finished", "fail_on_error": False},
            setup=with_tasks,
            changes=False,
        ),
        Scenario(name, "stop", {"upid": HANGING, "state": "stopped"}, setup=with_tasks),
        Scenario(name, "stopped", {"upid": ENDED, "state": "stopped"}, setup=with_tasks, changes=False),
        Scenario(looking, "all", {}, setup=with_tasks, changes=False),
        Scenario(looking, "one", {"upid": ENDED}, setup=with_tasks, changes=False),
        Scenario(looking, "locks", {"state": ["running"], "locks": True}, setup=with_lock, changes=False),
        Scenario("proxmox_lock", "none", {"vmid": 101}, changes=False),
    ]


def without_snapshots(cluster: Cluster) -> None:
    cluster.guests[101].snapshots.clear()
    cluster.guests[101].config.pop("parent", None)
    for volume in cluster.storages.volumes.values():
        volume.snapshots.clear()


VOLID = "local:backup/vzdump-qemu-101-2026_11_21-00_00_00.vma.zst"


def quick(cluster: Cluster) -> None:
    """Small guests, so that a backup or restore takes few looks."""
    cluster.durations.backup_seconds_per_gib = cluster.durations.clone_seconds_per_gib = 0.05


def backed_up(cluster: Cluster) -> None:
    """A backup of db on local, and an older one that all nodes see; both are named by their times."""
    quick(cluster)
    volume = cluster.storages.volumes
    for storage, age in (("local", 3600.0), ("shared", 86400.0)):
        made = cluster.add_backup(101, storage, age=age, notes="before the change")
        if storage == "local":
            place = cluster.storages.place(cluster.storages.all[storage], "pve1")
            cluster.storages.rename("pve1", made, VOLID)
            cluster.archives[VOLID] = cluster.archives.pop(made)
            volume[place, VOLID].ctime = int(cluster.now - age)


def protected_backup(cluster: Cluster) -> None:
    backed_up(cluster)
    cluster.storages.volumes["pve1", VOLID].protected = True


def pruning(cluster: Cluster) -> None:
    """Three backups of web, of which the storage keeps two."""
    quick(cluster)
    cluster.storages.all["shared"].options["prune-backups"] = "keep-last=2"
    for days in (1, 2, 3):
        cluster.add_backup(100, "shared", age=86400.0 * days)


def backed_up_container(cluster: Cluster) -> None:
    quick(cluster)
    container(cluster)
    cluster.add_backup(200, "shared", age=600.0)


def quick_container(cluster: Cluster) -> None:
    quick(cluster)
    container(cluster)


def running_original(cluster: Cluster) -> None:
    backed_up(cluster)
    cluster.start_now(101)


def failed_restore(cluster: Cluster) -> None:
    """What a restore that failed leaves behind."""
    backed_up(cluster)
    cluster.add_vm(150, disk=None).config.clear()


def scheduled(cluster: Cluster) -> None:
    cluster.backup_jobs["nightly"] = {
        "schedule": "02:00",
        "enabled": "1",
        "all": "1",
        "exclude": "9000,9001",
        "storage": "local",
        "prune-backups": "keep-daily=7,keep-weekly=4",
        "comment": "every night",
        "mailto": "a@example.com,b@example.com",
    }


MADE_ANEW = "every run makes a backup, unless it is told which one counts"


def backups() -> list[Scenario]:
    name = "proxmox_backup"
    return [
        Scenario(
            name, "running", {"name": "web", "storage": "local", "compress": "zstd"}, setup=quick, again=MADE_ANEW
        ),
        Scenario(name, "stopped", {"vmid": 101, "storage": "shared", "mode": "stop"}, setup=quick, again=MADE_ANEW),
        Scenario(
            name,
            "other-node",
            {
                "vmid": 102,
                "storage": "shared",
                "notes": "one\ntwo of {{guestname}}",
                "protected": True,
                "max_age": "1h",
            },
            setup=quick,
        ),
        Scenario(name, "container", {"name": "box", "storage": "shared", "max_age": 3600}, setup=quick_container),
        Scenario(
            name,
            "once",
            {"vmid": 101, "storage": "local", "notes": "before the upgrade", "once": True},
            setup=backed_up,
        ),
        Scenario(
            name,
            "pruned",
            {"vmid": 100, "storage": "shared", "prune": {"keep_last": 1}, "bwlimit": 1048576, "max_age": "12h"},
            setup=pruning,
        ),
        Scenario(name, "lately", {"name": "db", "storage": "local", "max_age": "2h"}, setup=backed_up, changes=False),
        Scenario(
            name,
            "once-done",
            {"vmid": 101, "storage": "local", "notes": "before the change", "once": True},
            setup=backed_up,
            changes=False,
        ),
        Scenario(name, "attributes", {"volid": VOLID, "notes": "x\ny", "protected": True}, setup=backed_up),
        Scenario(
            name, "attributes-same", {"volid": VOLID, "notes": "before the change"}, setup=backed_up, changes=False
        ),
        Scenario(name, "remove", {"volid": VOLID, "state": "absent"}, setup=backed_up),
        Scenario(
            name,
            "remove-protected",
            {"volid": VOLID, "state": "absent", "protected": False, "node": "pve1"},
            setup=protected_backup,
        ),
        Scenario(name, "gone", {"volid": VOLID, "state": "absent"}, changes=False),
        Scenario("proxmox_backup_info", "all", {}, setup=backed_up, changes=False),
        Scenario(
            "proxmox_backup_info",
            "one",
            {"vmid": 101, "storage": "local", "newer_than": "1d"},
            setup=backed_up,
            changes=False,
        ),
    ]


def restores() -> list[Scenario]:
    name = "proxmox_restore"
    latest = {"latest": True, "source_vmid": 101}
    return [
        Scenario(name, "vmid", {"volid": VOLID, "vmid": 150, "unique": True}, {150: ANYTHING}, setup=backed_up),
        Scenario(name, "next", {**latest, "name": "copy", "pool": "test"}, {103: ANYTHING}, setup=backed_up),
        Scenario(
            name,
            "elsewhere",
            {**latest, "source_storage": "shared", "vmid": 150, "node": "pve2", "storage": "shared", "start": True},
            {150: ANYTHING},
            setup=backed_up,
        ),
        Scenario(
            name,
            "over",
            {"volid": VOLID, "node": "pve1", "vmid": 101, "force": True},
            {101: keys("scsi0", "vmgenid")},
            setup=backed_up,
            again="it replaces what the guest has written since, which is not visible to the server",
        ),
        Scenario(
            name,
            "over-running",
            {"volid": VOLID, "vmid": 101, "force": True, "stop": True, "start": True},
            {101: keys("scsi0", "vmgenid")},
            setup=running_original,
            again="it replaces what the guest has written since",
        ),
        Scenario(name, "rest", {"volid": VOLID, "vmid": 150}, {150: ANYTHING}, setup=failed_restore),
        Scenario(name, "there", {**latest, "vmid": 101}, setup=backed_up, changes=False),
        Scenario(name, "there-start", {**latest, "vmid": 101, "start": True}, setup=backed_up),
        Scenario(name, "there-name", {**latest, "name": "db"}, setup=backed_up, changes=False),
        Scenario(
            name,
            "container",
            {"latest": True, "source_vmid": 200, "vmid": 250, "name": "box2", "storage": "local-lvm", "start": True},
            {250: ANYTHING},
            setup=backed_up_container,
        ),
        Scenario(
            name,
            "container-over",
            {"latest": True, "source_vmid": 200, "vmid": 200, "storage": "local-lvm", "force": True, "stop": True},
            {200: keys("rootfs")},
            setup=backed_up_container,
            again="it replaces what the guest has written since",
        ),
    ]


def jobs() -> list[Scenario]:
    name = "proxmox_backup_job"
    nightly = {"id": "nightly"}
    return [
        Scenario(
            name,
            "create",
            {
                "id": "weekly",
                "schedule": "sun 01:00",
                "vmids": [101, 100],
                "storage": "shared",
                "prune": {"keep_last": 3},
                "notes_template": "{{guestname}}",
                "exclude_path": ["/tmp/*", "/var/cache"],
            },
        ),
        Scenario(name, "create-pool", {"id": "pooled", "schedule": "03:00", "pool": "prod", "enabled": False}),
        Scenario(
            name, "change", {**nightly, "enabled": False, "comment": "off", "prune": {"keep_last": 2}}, setup=scheduled
        ),
        Scenario(name, "select", {**nightly, "vmids": [100]}, setup=scheduled),
        Scenario(name, "select-pool", {**nightly, "pool": "prod", "protected": True}, setup=scheduled),
        Scenario(name, "unset", {**nightly, "absent": ["comment", "exclude", "mode"]}, setup=scheduled),
        Scenario(
            name,
            "same",
            {
                **nightly,
                "schedule": "02:00",
                "enabled": True,
                "repeat_missed": False,
                "all": True,
                "exclude": [9001, 9000],
                "prune": {"keep-weekly": "4"},
                "mailto": ["b@example.com", "a@example.com"],
            },
            setup=scheduled,
            changes=False,
        ),
        Scenario(name, "remove", {**nightly, "state": "absent"}, setup=scheduled),
        Scenario(name, "gone", {**nightly, "state": "absent"}, changes=False),
    ]


ADDRESS = "https://images.example.com/debian-13.qcow2"


def web(cluster: Cluster) -> None:
    """Something to fetch."""
    put_on_web(cluster, ADDRESS, 300 * 1024**2)


def fetched(cluster: Cluster) -> None:
    """It is there already."""
    web(cluster)
    for kind, name, form in (("import", "debian-13.qcow2", "qcow2"), ("vztmpl", "alpine.tar.zst", "tzst")):
        volid = f"shared:{kind}/{name}"
        cluster.storages.volumes["", volid] = Volume(volid, 300 * 1024**2, form, kind, None, int(cluster.now))


def contents() -> list[Scenario]:
    name = "proxmox_storage_content"
    fetch = {"storage": "shared", "url": ADDRESS}
    digest = WebFile(0, ADDRESS).digest("sha256")
    return [
        Scenario(name, "upload", {"storage": "shared", "src": __file__, "filename": "tools.iso"}),
        Scenario(name, "fetch", {**fetch, "checksum": f"sha256:{digest}"}, setup=web),
        Scenario(
            name,
            "template",
            {"storage": "local", "node": "pve2", "template": "debian-13-standard_13.1-2_amd64.tar.zst"},
        ),
        Scenario(name, "there", fetch, setup=fetched, changes=False),
        Scenario(
            name,
            "replace",
            {**fetch, "overwrite": "always"},
            setup=fetched,
            again="always means on every run",
        ),
        Scenario(
            name,
            "upload-changed",
            {"storage": "shared", "src": __file__, "filename": "debian-13.qcow2", "overwrite": "changed"},
            setup=fetched,
        ),
        Scenario(
            name, "absent", {"storage": "shared", "filename": "debian-13.qcow2", "state": "absent"}, setup=fetched
        ),
        Scenario(name, "gone", {"storage": "shared", "filename": "debian-13.qcow2", "state": "absent"}, changes=False),
        Scenario(name, "all", {"storage": "shared"}, setup=fetched, changes=False),
    ]


def endpoints() -> list[Scenario]:
    name = "proxmox_api"
    put, pool = {"method": "put", "compare": True}, {"path": "/pools/test"}
    ha = {**put, "path": "/cluster/ha/resources/vm:110"}
    config = {**put, "path": "/nodes/pve1/qemu/101/config"}
    return [
        Scenario(name, "read", {"path": "/cluster/status"}, changes=False),
        Scenario(name, "object", {**put, **pool, "params": {"comment": "of tests"}}),
        Scenario(name, "ha", {**ha, "params": {"max_restart": 3, "failback": True}}, setup=managed_stopped),
        Scenario(
            name,
            "ha-there",
            {**ha, "params": {"state": "stopped", "max_restart": 1}},
            setup=managed_stopped,
            changes=False,
        ),
        Scenario(
            name,
            "config",
            {**config, "params": {"cores": 2, "delete": "description,tags"}},
            {101: keys("cores", "description")},
        ),
        Scenario(
            name,
            "config-there",
            {**config, "params": {"net0": "bridge=vmbr0,model=virtio,firewall=on", "memory": 512, "acpi": True}},
            changes=False,
        ),
        Scenario(
            name, "create", {"method": "post", "path": "/pools", "params": {"poolid": "new"}, "creates": "/pools/new"}
        ),
        Scenario(
            name,
            "create-there",
            {"method": "post", "path": "/pools", "params": {"poolid": "test"}, "creates": "/pools/test"},
            changes=False,
        ),
        Scenario(name, "delete", {"method": "delete", **pool, "compare": True}),
        Scenario(name, "deleted", {"method": "delete", "path": "/pools/none", "compare": True}, changes=False),
        Scenario(
            name,
            "deed",
            {"method": "post", "path": "/nodes/pve1/qemu/100/status/reset"},
            again="a request that is not compared with anything is made on every run",
            once="nothing tells whether a request that is not compared with anything was made",
        ),
    ]


def data(cluster: Cluster) -> None:
    """A VM with a disk in every kind of slot, one that is in none, a CD drive, and a VM beside it."""
    made = {"scsi1": "local-lvm:2", "scsi2": "local-lvm:1", "sata0": "local-lvm:1", "ide0": "none,media=cdrom"}
    config = cluster.add_vm(120, "data", disk="local-lvm:8", config=made).config
    config["unused0"] = config.pop("scsi2").partition(",")[0]
    cluster.add_vm(121, "beside")
    cluster.storages.volumes["", ISO] = Volume(ISO, 700 * 1024**2, "iso", "iso", None, int(cluster.now))


def data_running(cluster: Cluster) -> None:
    cluster.add_vm(121, "beside")
    made = {"scsi1": "local-lvm:2", "scsi2": "local-lvm:1", "sata0": "local-lvm:1", "ide0": f"{ISO},media=cdrom"}
    cluster.storages.volumes["", ISO] = Volume(ISO, 700 * 1024**2, "iso", "iso", None, int(cluster.now))
    config = cluster.add_vm(120, "data", disk="local-lvm:8", running=True, config=made).config
    config["unused0"] = config.pop("scsi2").partition(",")[0]


def data_in_files(cluster: Cluster) -> None:
    cluster.add_vm(120, "data", disk="shared:8,format=qcow2")


def data_to_import(cluster: Cluster) -> None:
    data(cluster)
    fetched(cluster)


def files(cluster: Cluster, *, running: bool = False) -> None:
    """Two containers, one with a mount point."""
    made = {"mp0": "local-lvm:2,mp=/srv", "mp1": "local-lvm:1,mp=/var"}
    config = cluster.add_ct(220, "files", config=made, running=running).config
    config["unused0"] = config.pop("mp1").partition(",")[0]
    cluster.add_ct(221, "beside-files")


def files_running(cluster: Cluster) -> None:
    files(cluster, running=True)


ISO = "shared:iso/tools.iso"


def disks() -> list[Scenario]:
    name = "proxmox_disk"
    return [
        Scenario(
            name, "move", {"name": "data", "disk": "scsi0", "storage": "shared"}, {120: keys("scsi0")}, data_running
        ),
        Scenario(
            name,
            "move-keep",
            {
                "vmid": 120,
                "disk": "scsi0",
                "storage": "shared",
                "format": "qcow2",
                "keep_source": True,
            },
            {120: keys("scsi0", "unused1")},
            data,
        ),
        Scenario(name, "move-unused", {"vmid": 120, "disk": "unused0", "storage": "san"}, {120: keys("unused0")}, data),
        Scenario(
            name,
            "convert",
            {"vmid": 120, "disk": "scsi0", "storage": "shared", "format": "raw"},
            {120: keys("scsi0")},
            data_in_files,
        ),
        Scenario(name, "moved", {"vmid": 120, "disk": "scsi0", "storage": "local-lvm"}, setup=data, changes=False),
        Scenario(
            name,
            "detach",
            {"vmid": 120, "disk": "scsi1", "state": "detached"},
            {120: keys("scsi1", "unused1")},
            data_running,
        ),
        Scenario(
            name,
            "detach-later",
            {"vmid": 120, "disk": "sata0", "state": "detached"},
            {120: keys("sata0")},
            data_running,
        ),
        Scenario(name, "detached", {"vmid": 120, "disk": "scsi7", "state": "detached"}, setup=data, changes=False),
        Scenario(
            name,
            "attach",
            {"vmid": 120, "disk": "scsi2", "volume": "unused0", "options": {"discard": "on", "ssd": True}},
            {120: keys("scsi2", "unused0")},
            data_running,
        ),
        Scenario(
            name,
            "attach-later",
            {"vmid": 120, "disk": "sata1", "volume": "unused0"},
            {120: keys("sata1", "unused0")},
            data_running,
        ),
        Scenario(
            name,
            "attached",
            {"vmid": 120, "disk": "scsi0", "volume": "local-lvm:vm-120-disk-1"},
            setup=data,
            changes=False,
        ),
        Scenario(name, "absent", {"vmid": 120, "disk": "scsi1", "state": "absent"}, {120: keys("scsi1")}, data),
        Scenario(
            name, "absent-later", {"vmid": 120, "disk": "sata0", "state": "absent"}, {120: keys("sata0")}, data_running
        ),
        Scenario(
            name, "absent-unused", {"vmid": 120, "disk": "unused0", "state": "absent"}, {120: keys("unused0")}, data
        ),
        Scenario(
            name, "absent-cd", {"vmid": 120, "disk": "ide0", "state": "absent"}, {120: keys("ide0", "boot")}, data
        ),
        Scenario(name, "insert", {"vmid": 120, "disk": "ide0", "iso": ISO}, {120: keys("ide0", "boot")}, data),
        Scenario(name, "insert-new", {"vmid": 120, "disk": "ide1", "iso": ISO}, {120: keys("ide1", "boot")}, data),
        Scenario(
            name, "eject", {"vmid": 120, "disk": "ide0", "iso": "none"}, {120: keys("ide0", "boot")}, data_running
        ),
        Scenario(name, "inserted", {"vmid": 120, "disk": "ide0", "iso": ISO}, setup=data_running, changes=False),
        Scenario(
            name,
            "import",
            {
                "vmid": 120,
                "disk": "scsi3",
                "import_from": "shared:import/debian-13.qcow2",
                "storage": "local-lvm",
                "options": {"ssd": True},
            },
            {120: keys("scsi3")},
            data_to_import,
        ),
        Scenario(
            name,
            "hand-over",
            {"vmid": 120, "disk": "scsi1", "target_vmid": 121},
            {120: keys("scsi1"), 121: keys("scsi1")},
            data,
        ),
        Scenario(
            name,
            "hand-over-unused",
            {"vmid": 120, "disk": "unused0", "target_vmid": 121, "target_disk": "virtio1"},
            {120: keys("unused0"), 121: keys("virtio1")},
            data_running,
        ),
        Scenario(name, "container-move", {"vmid": 220, "disk": "mp0", "storage": "shared"}, {220: keys("mp0")}, files),
        Scenario(
            name,
            "container-move-keep",
            {"vmid": 220, "disk": "rootfs", "storage": "san", "keep_source": True},
            {220: keys("rootfs", "unused1")},
            files,
        ),
        Scenario(
            name,
            "container-detach",
            {"vmid": 220, "disk": "mp0", "state": "detached"},
            {220: keys("mp0", "unused1")},
            files,
        ),
        Scenario(
            name,
            "container-detach-later",
            {"name": "files", "disk": "mp0", "state": "detached"},
            {220: keys("mp0")},
            files_running,
        ),
        Scenario(
            name,
            "container-attach",
            {"vmid": 220, "disk": "mp3", "volume": "unused0", "options": {"mp": "/opt", "backup": True}},
            {220: keys("mp3", "unused0")},
            files_running,
        ),
        Scenario(
            name,
            "container-absent",
            {"vmid": 220, "disk": "mp0", "volume": "local-lvm:vm-220-disk-1", "state": "absent"},
            {220: keys("mp0")},
            files,
        ),
        Scenario(
            name,
            "container-hand-over",
            {"vmid": 220, "disk": "mp0", "target_vmid": 221, "target_disk": "mp4"},
            {220: keys("mp0"), 221: keys("mp4")},
            files,
        ),
    ]


def looks() -> list[Scenario]:
    """What only looks."""
    return [
        Scenario("proxmox_vm_info", "all", {}, changes=False),
        Scenario("proxmox_vm_info", "one", {"name": "web", "facts": ["status", "config", "snapshots"]}, changes=False),
        Scenario("proxmox_vm_info", "agent", {"vmid": 100, "facts": ["agent"]}, changes=False),
        Scenario(
            "proxmox_vm_info", "container", {"vmid": 200, "facts": ["interfaces"]}, setup=container, changes=False
        ),
        Scenario("proxmox_node_info", "all", {}, changes=False),
        Scenario("proxmox_template_info", "all", {"available": True}, setup=fetched, changes=False),
        Scenario("proxmox_cluster_info", "all", {}, changes=False),
        Scenario("proxmox_metrics_info", "guest", {"name": "web", "metrics": ["cpu"]}, changes=False),
        Scenario("proxmox_metrics_info", "node", {"node": "pve2", "timeframe": "year"}, changes=False),
        Scenario("proxmox_metrics_info", "storage", {"node": "pve1", "storage": "local-lvm"}, changes=False),
        Scenario("proxmox_capacity_info", "disk", {"memory": 2048, "disk": "10G", "storage": "shared"}, changes=False),
    ]


SYSTEM = "local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst"
IMAGE = "local:import/debian.qcow2"


def stocked(cluster: Cluster) -> None:
    """Have a template of a system and a disk image on the first node."""
    volumes = cluster.storages.volumes
    volumes["pve1", SYSTEM] = Volume(SYSTEM, 10**8, "tzst", "vztmpl", None, 0)
    volumes["pve1", IMAGE] = Volume(IMAGE, 2 * GIB, "qcow2", "import", None, 0)


CT_VOLID = "shared:backup/vzdump-lxc-200-2026_11_21-00_00_00.tar.zst"


def kept_container(cluster: Cluster) -> None:
    """A backup of the container, by a known name."""
    backed_up_container(cluster)
    (made,) = [volid for _place, volid in cluster.storages.volumes if ":backup/vzdump-lxc-" in volid]
    cluster.storages.rename("pve1", made, CT_VOLID)
    cluster.archives[CT_VOLID] = cluster.archives.pop(made)


def wholes() -> list[Scenario]:
    name = "proxmox_vm"
    machine = {
        "name": "new",
        "node": "pve1",
        "cores": 2,
        "memory": 2048,
        "ostype": "l26",
        "agent": True,
        "tags": ["b", "a"],
        "pool": "test",
        "onboot": True,
        "net": {"net0": {"bridge": "vmbr0", "tag": 20}, "net1": {"bridge": "vmbr0"}},
        "disks": {
            "scsi0": {"storage": "local-lvm", "size": 8, "discard": True},
            "scsi1": {"storage": "local-lvm", "size": "4G"},
            "ide2": {"cloudinit": "local-lvm"},
        },
        "ciuser": "admin",
        "cipassword": "correct horse",
        "ipconfig": {"ipconfig0": {"ip": "192.0.2.10/24", "gw": "192.0.2.1"}},
    }
    imported = {"scsi0": {"storage": "local-lvm", "import_from": IMAGE, "size": "6G"}}
    system = {
        "name": "box",
        "node": "pve1",
        "ostemplate": SYSTEM,
        "password": "correct horse",
        "memory": 1024,
        "features": {"nesting": True},
        "net": {"net0": {"bridge": "vmbr0", "ip": "dhcp"}},
        "disks": {
            "rootfs": {"storage": "local-lvm", "size": 4},
            "mp0": {"storage": "local-lvm", "size": 1, "mp": "/srv"},
        },
        "power": "started",
    }
    copied = {"name": "new", "clone": "debian", "cores": 4, "tags": ["x"], "disks": {"scsi0": {"size": "4G"}}}
    return [
        Scenario(name, "create", {**machine, "power": "started", "wait_for": "ip"}, {103: ANYTHING}),
        Scenario(name, "create-vmid", {"vmid": 150, "name": "new", "node": "pve2"}, {150: ANYTHING}),
        Scenario(name, "import", {"vmid": 150, "node": "pve1", "disks": imported}, {150: ANYTHING}, setup=stocked),
        Scenario(name, "clone", {**copied, "power": "started"}, {103: ANYTHING}),
        Scenario(name, "clone-moved", {**copied, "full": True, "node": "pve2", "pool": "test"}, {103: ANYTHING}),
        Scenario(
            name,
            "restore",
            {
                "vmid": 150,
                "name": "new",
                "node": "pve1",
                "archive": VOLID,
                "unique": True,
                "storage": "local-lvm",
                "cores": 4,
                "disks": {"scsi0": {"size": "10G"}},
                "power": "started",
            },
            {150: ANYTHING},
            setup=backed_up,
        ),
        Scenario(
            name,
            "restore-container",
            {
                "vmid": 150,
                "name": "new",
                "node": "pve1",
                "archive": CT_VOLID,
                "storage": "local-lvm",
                "memory": 256,
                "power": "started",
            },
            {150: ANYTHING},
            setup=kept_container,
        ),
        Scenario(name, "container", system, {103: ANYTHING}, setup=stocked),
        Scenario(
            name,
            "there",
            {**copied, "name": "web", "cores": 2, "tags": [], "disks": {}, "power": "started", "wait_for": "agent"},
            {100: keys("tags")},
        ),
        Scenario(
            name,
            "nothing",
            {"vmid": 100, "name": "web", "cores": 2, "pool": "prod", "power": "started", "wait_for": "ip"},
            changes=False,
        ),
        Scenario(name, "change", {"vmid": 100, "name": "web", "cores": 4, "tags": ["x"]}, {100: keys("cores", "tags")}),
        Scenario(name, "reboot", {"name": "web", "cores": 4, "reboot": "if_required"}, {100: keys("cores")}),
        Scenario(name, "start", {"vmid": 101, "cores": 2, "power": "started"}, {101: keys("cores")}),
        Scenario(name, "stop", {"name": "web", "memory": 512, "power": "stopped"}, {100: keys("memory")}),
        Scenario(name, "template", {"vmid": 102, "state": "template"}, {102: keys("template", "scsi0")}),
        Scenario(
            name,
            "template-made",
            {**copied, "full": True, "state": "template"},
            {103: ANYTHING},
        ),
        Scenario(
            name,
            "template-container",
            {"vmid": 200, "state": "template", "power": "stopped", "force": True},
            {200: keys("template", "rootfs")},
            setup=container,
        ),
        Scenario(name, "absent", {"vmid": 102, "name": "moved", "state": "absent"}, {102: ANYTHING}),
        Scenario(
            name, "absent-running", {"vmid": 100, "name": "web", "state": "absent", "force": True}, {100: ANYTHING}
        ),
        Scenario(name, "absent-template", {"vmid": 9000, "state": "absent", "allow_template": True}, {9000: ANYTHING}),
        Scenario(
            name,
            "absent-container",
            {"vmid": 200, "state": "absent", "force": True, "destroy_unreferenced_disks": True},
            {200: ANYTHING},
            setup=container,
        ),
        Scenario(
            name,
            "absent-ha",
            {"vmid": 110, "state": "absent", "force": True, "purge": True},
            {110: ANYTHING},
            setup=managed_running,
        ),
        Scenario(name, "absent-gone", {"name": "nobody", "state": "absent"}, changes=False),
        Scenario(name, "absent-gone-vmid", {"vmid": 150, "name": "web", "state": "absent"}, changes=False),
    ]


SCENARIOS = [
    *clones(),
    *powers(),
    *configs(),
    *snapshots(),
    *migrations(),
    *fleets(),
    *backups(),
    *restores(),
    *jobs(),
    *contents(),
    *endpoints(),
    *agents(),
    *servers_tasks(),
    *disks(),
    *looks(),
    *wholes(),
]
