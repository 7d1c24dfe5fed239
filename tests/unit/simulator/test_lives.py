"""Power, snapshots, migration, backups: what holds which lock for how long, and what lags."""

from __future__ import annotations

from tests.simulator import Cluster

from .api import Api

VM = "/nodes/pve1/qemu/100"
LOCKED = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"


def row(api: Api, vmid: int = 100) -> dict[str, object]:
    (found,) = [row for row in api.data("GET", "/cluster/resources", type="vm") if row["vmid"] == vmid]
    return dict(found)


def test_a_reboot_ends_stopped_and_root_starts_it_again(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, running=True)
    api.data("PUT", f"{VM}/config", cores=4)
    task = api.start("POST", f"{VM}/status/reboot")
    assert api.finish(task) == "OK"
    assert not guest.running
    cluster.clock.advance(5)
    assert guest.running
    assert guest.config["cores"] == "4"
    started = cluster.tasks.ended[-1]
    assert (started.type, started.authid) == ("qmstart", "root@pam")


def test_a_shutdown_that_waits_holds_the_lock(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, running=True)
    guest.behaviour.acpi = False
    task = api.start("POST", f"{VM}/status/shutdown", timeout=40)
    cluster.clock.advance(1)
    response = api.call("PUT", f"{VM}/config", cores=2)
    assert (response.reason, round(response.seconds)) == (LOCKED, 10)
    assert api.run("POST", f"{VM}/status/stop", **{"overrule-shutdown": 1}) == "OK"
    assert task.status == "received interrupt"
    assert not guest.running


def test_a_start_right_after_a_stop_leaves_the_lock_with_qm_cleanup(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, running=True)
    api.run("POST", f"{VM}/status/stop")
    api.run("POST", f"{VM}/status/start")
    cluster.clock.advance(1)
    assert api.fail("PUT", f"{VM}/config", cores=2) == LOCKED
    cluster.clock.advance(30)
    api.data("PUT", f"{VM}/config", cores=2)


def test_a_start_a_second_after_a_stop_does_not(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, running=True)
    api.run("POST", f"{VM}/status/stop")
    cluster.clock.advance(1)
    api.run("POST", f"{VM}/status/start")
    cluster.clock.advance(1)
    api.data("PUT", f"{VM}/config", cores=2)


def test_a_start_that_fails_says_why_in_its_task(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100)
    guest.behaviour.start_error = "start failed: QEMU exited with code 1"
    assert api.run("POST", f"{VM}/status/start") == "start failed: QEMU exited with code 1"
    assert api.run("POST", "/nodes/pve1/qemu/777/status/start").endswith("777.conf' does not exist")


def test_memory_is_finite(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, config={"memory": "100000"})
    assert api.run("POST", f"{VM}/status/start").startswith("start failed")
    assert not guest.running


def test_hibernation_is_stopped_and_locked(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, running=True)
    assert api.run("POST", f"{VM}/status/suspend", todisk=1) == "OK"
    current = api.data("GET", f"{VM}/status/current")
    assert (current["status"], current["lock"]) == ("stopped", "suspended")
    assert api.fail("PUT", f"{VM}/config", cores=2) == "VM is locked (suspended)"
    assert api.run("POST", f"{VM}/status/resume") == "OK"
    assert guest.running
    assert not {"lock", "vmstate"} & set(guest.config)
    assert not [volid for _place, volid in cluster.storages.volumes if "state" in volid]


def test_resources_lag_and_locks_do_not(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, "old")
    api.run("POST", f"{VM}/status/start")
    api.data("PUT", f"{VM}/config", name="new", tags="x")
    assert row(api) | {"status": "stopped", "name": "old", "tags": "x"} == row(api)
    cluster.clock.advance(11)
    assert row(api) | {"status": "running", "name": "new"} == row(api)


def test_a_dead_node_s_guests_stay_running_for_five_minutes(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, node="pve2", running=True)
    cluster.clock.advance(20)
    cluster.node_down("pve2")
    cluster.clock.advance(200)
    assert row(api)["status"] == "running"
    cluster.clock.advance(150)
    assert row(api).keys() == {"id", "vmid", "node", "type", "status"}


def test_a_stopped_vm_runs_while_it_is_backed_up(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, disk="local:8")
    task = api.start("POST", "/nodes/pve1/vzdump", vmid=100, storage="local")
    cluster.clock.advance(2)
    current = api.data("GET", f"{VM}/status/current")
    assert (current["status"], current["qmpstatus"], current["lock"]) == ("running", "prelaunch", "backup")
    assert api.run("POST", f"{VM}/status/start") == "OK"
    assert api.finish(task) == "OK"
    assert "lock" not in guest.config
    assert api.data("POST", "/nodes/pve2/vzdump", vmid=100, storage="local") == "OK"


def test_a_snapshot_that_fails_cleans_up_and_a_deletion_that_fails_does_not(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100)
    volid = "local:100/vm-100-disk-0.qcow2"
    cluster.broken_snapshots[volid] = "qemu-img snapshot error"
    before = cluster.snapshot()
    assert api.run("POST", f"{VM}/snapshot", snapname="one") == "qemu-img snapshot error"
    assert cluster.snapshot() == before
    cluster.broken_snapshots.clear()
    api.run("POST", f"{VM}/snapshot", snapname="one")
    cluster.broken_snapshots[volid] = "qemu-img snapshot error"
    assert api.run("DELETE", f"{VM}/snapshot/one") == "qemu-img snapshot error"
    assert (guest.config["lock"], guest.snapshots["one"]["snapstate"]) == ("snapshot-delete", "delete")
    cluster.set_lock(100, None)
    assert api.run("DELETE", f"{VM}/snapshot/one", force=1) == "OK"
    assert guest.snapshots == {}


def test_a_rollback_brings_back_configuration_and_size(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, config={"description": "kept"})
    api.run("POST", f"{VM}/snapshot", snapname="one", description="d")
    api.run("PUT", f"{VM}/resize", disk="scsi0", size="+2G")
    api.data("PUT", f"{VM}/config", cores=4, description="kept later", scsi1="local:1")
    generation = guest.config["vmgenid"]
    assert api.run("POST", f"{VM}/snapshot/one/rollback") == "OK"
    assert (guest.config["cores"], guest.config["description"]) == ("1", "kept later")
    assert guest.config["scsi0"].endswith("size=8G")
    assert guest.config["unused0"] == "local:100/vm-100-disk-1.qcow2"
    assert guest.config["parent"] == "one"
    assert guest.config["vmgenid"] != generation


def test_the_tree_of_snapshots(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    for name in ("one", "two", "three"):
        api.run("POST", f"{VM}/snapshot", snapname=name)
    api.run("DELETE", f"{VM}/snapshot/two")
    parents = {row["name"]: row.get("parent") for row in api.data("GET", f"{VM}/snapshot")}
    assert parents == {"one": None, "three": "one", "current": "three"}


def test_a_storage_without_snapshots(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, disk="san:8")
    assert api.data("GET", f"{VM}/feature", feature="snapshot")["hasFeature"] == 0
    assert api.run("POST", f"{VM}/snapshot", snapname="one") == "snapshot feature is not available"


def test_while_a_vm_moves_its_source_answers_until_the_end(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, disk="local:4", running=True)
    task = api.start("POST", f"{VM}/migrate", target="pve2", online=1, with__local__disks=1)
    cluster.clock.advance(2)
    assert api.config(100)["lock"] == "migrate"
    assert api.fail("PUT", f"{VM}/config", cores=2) == "VM is locked (migrate)"
    assert api.finish(task) == "OK"
    assert task.node == "pve1"
    assert api.fail("GET", f"{VM}/config").endswith("does not exist")
    assert (guest.node, guest.running) == ("pve2", True)
    assert [key for key in cluster.storages.volumes if "100" in key[1]] == [("pve2", "local:100/vm-100-disk-0.qcow2")]


def test_a_migration_that_is_stopped_leaves_the_vm_where_it_was(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, disk="local:4")
    before = cluster.snapshot()
    task = api.start("POST", f"{VM}/migrate", target="pve2")
    cluster.clock.advance(2)
    api.data("DELETE", f"/nodes/pve1/tasks/{task.upid}")
    assert api.finish(task) == "migration aborted"
    assert cluster.snapshot() == before


def test_a_target_without_memory(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, disk="shared:1", running=True)
    cluster.nodes["pve2"].maxmem = 512 * 1024**2
    assert api.run("POST", f"{VM}/migrate", target="pve2", online=1) == "migration problems"
    assert (guest.node, guest.running, guest.config.get("lock")) == ("pve1", True, None)


def test_a_disk_that_cannot_be_freed_is_a_warning(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    cluster.stuck_volumes["local:100/vm-100-disk-0.qcow2"] = "device busy"
    task = api.start("DELETE", VM)
    assert api.finish(task) == "WARNINGS: 1"
    assert "WARN: Could not remove disk 'local:100/vm-100-disk-0.qcow2', check manually: device busy" in task.log_lines
    assert 100 not in cluster.guests
    assert ("pve1", "local:100/vm-100-disk-0.qcow2") in cluster.storages.volumes


def test_creating_takes_the_vmid_at_once_and_gives_it_back_when_a_disk_fails(api: Api, cluster: Cluster) -> None:
    cluster.add_storage("small", "dir", size=1024**3)
    task = api.start("POST", "/nodes/pve1/qemu", vmid=100, scsi0="small:8")
    assert api.fail("POST", "/nodes/pve2/qemu", vmid=100) == (
        "unable to create VM 100 - VM 100 already exists on node 'pve1'"
    )
    assert api.data("GET", "/cluster/nextid") == "101"
    assert api.finish(task).startswith("unable to create VM 100 - ")
    assert api.data("GET", "/cluster/nextid") == "100"


def test_a_task_that_has_ended_can_look_as_if_it_ran(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    cluster.tasks.zombie_seconds = 5.0
    task = api.start("POST", f"{VM}/status/start")
    api.finish(task)
    path = f"/nodes/pve1/tasks/{task.upid}"
    assert api.data("GET", f"{path}/status")["status"] == "running"
    assert api.data("GET", f"{path}/log")[-1]["t"] == "TASK OK"
    cluster.clock.advance(6)
    assert api.data("GET", f"{path}/status")["exitstatus"] == "OK"


def test_qcow2_does_not_go_to_lvm_offline_but_while_it_runs(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, disk="local:2", config={"ide2": "local:cloudinit"})
    task = api.start("POST", f"{VM}/migrate", target="pve2", targetstorage="local-lvm")
    assert api.finish(task) == "migration aborted"
    assert any("cannot migrate from storage type 'dir' to 'lvmthin'" in line for line in task.log_lines)
    guest = cluster.add_vm(101, disk="local:2", running=True)
    path = "/nodes/pve1/qemu/101/migrate"
    assert api.run("POST", path, target="pve2", targetstorage="local-lvm", online=1, with__local__disks=1) == "OK"
    assert guest.config["scsi0"] == "local-lvm:vm-101-disk-0,size=2G"


def test_a_linked_clone_on_local_storage_stays(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000)
    api.run("POST", "/nodes/pve1/qemu/9000/clone", newid=100)
    task = api.start("POST", f"{VM}/migrate", target="pve2")
    assert api.finish(task) == "migration aborted"
    assert any("as it's a clone of" in line for line in task.log_lines)
