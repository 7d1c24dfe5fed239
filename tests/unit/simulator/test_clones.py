"""Clones: what is visible while they run, what they compete for, and what a failed one leaves."""

from __future__ import annotations

import pytest

from tests.simulator import Cluster

from .api import Api

CLONE = "/nodes/pve1/qemu/9000/clone"
STORAGE_LOCK = "can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout"


def rows(api: Api) -> dict[int, dict[str, object]]:
    return {row["vmid"]: row for row in api.data("GET", "/cluster/resources", type="vm")}


def test_a_fresh_clone_has_no_name_yet(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000, "base", disk="local:8")
    task = api.start("POST", CLONE, newid=100, name="new", full=1)
    assert (task.type, task.id) == ("qmclone", "9000")
    assert set(api.config(100)) == {"lock", "description", "digest"}
    assert rows(api)[100].keys() == {"id", "vmid", "node", "type", "status", "lock"}
    assert api.finish(task) == "OK"
    assert "lock" not in api.config(100)
    cluster.clock.advance(11)
    assert rows(api)[100]["name"] == "new"


def test_what_a_clone_keeps_and_what_it_gets_anew(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000, "base", config={"tags": "a", "onboot": "1", "description": "d", "protection": "1"})
    api.run("POST", CLONE, newid=100)
    old, new = cluster.guests[9000].config, cluster.guests[100].config
    assert new["name"] == "Copy-of-VM-base"
    for key in ("net0", "smbios1", "vmgenid"):
        assert new[key] != old[key]
    for key in ("tags", "onboot", "description", "protection"):
        assert new[key] == old[key]
    assert "template" not in new


def test_parallel_clones_wait_for_the_storage_ten_seconds(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000)
    cluster.durations.allocate = 4.0
    tasks = [api.start("POST", CLONE, newid=newid, full=1) for newid in range(100, 105)]
    ends = [api.finish(task) for task in tasks]
    assert ends == ["OK", "OK", "OK", f"clone failed: {STORAGE_LOCK}", f"clone failed: {STORAGE_LOCK}"]
    assert set(cluster.guests) == {9000, 100, 101, 102}


def test_an_aborted_clone_leaves_nothing(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000, disk="local:8")
    before = cluster.snapshot()
    task = api.start("POST", CLONE, newid=100, full=1)
    cluster.clock.advance(1.0)
    api.data("DELETE", f"/nodes/pve1/tasks/{task.upid}")
    assert api.finish(task).endswith("failed: interrupted by signal")
    assert cluster.snapshot() == before


def test_a_full_storage(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000)
    cluster.add_storage("small", "lvmthin", size=1024**3)
    task = api.start("POST", CLONE, newid=100, full=1, storage="small")
    assert "insufficient free space" in api.finish(task)
    assert 100 not in cluster.guests


def test_a_vmid_on_another_node_is_seen_in_the_task_only(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000)
    cluster.add_vm(100, node="pve2")
    text = "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/100.conf' failed: File exists"
    assert api.run("POST", CLONE, newid=100) == text
    cluster.add_vm(101)
    assert api.fail("POST", CLONE, newid=101) == "unable to create VM 101: config file already exists"


def test_two_clones_for_one_vmid(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000)
    cluster.durations.fork = 0.5
    first = api.start("POST", CLONE, newid=100, full=1)
    second = api.start("POST", CLONE, newid=100, full=1)
    assert sorted([api.finish(first), api.finish(second)]) == [
        "OK",
        "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
    ]


def test_a_running_source_is_locked_for_others(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(9000, running=True, disk="local:8")
    first = api.start("POST", CLONE, newid=100)
    second = api.start("POST", CLONE, newid=101)
    assert api.finish(second) == "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout"
    assert api.finish(first) == "OK"


def test_clones_of_a_template_run_side_by_side(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000, disk="local:8")
    began = cluster.now
    tasks = [api.start("POST", CLONE, newid=newid, full=1) for newid in (100, 101)]
    assert [api.finish(task) for task in tasks] == ["OK", "OK"]
    assert cluster.now - began < 6


@pytest.mark.parametrize(("target", "answer"), [("pve2", ""), ("nosuch", "no such cluster node 'nosuch'")])
def test_a_clone_on_shared_storage_goes_to_another_node(api: Api, cluster: Cluster, target: str, answer: str) -> None:
    cluster.add_template(9000, disk="shared:1")
    if answer:
        assert api.fail("POST", CLONE, newid=100, target=target) == answer
        return
    assert api.run("POST", CLONE, newid=100, target=target) == "OK"
    assert cluster.guests[100].node == target


def test_the_pool_is_checked_early_and_joined_last(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000, disk="local:8")
    cluster.add_pool("lab")
    assert api.fail("POST", CLONE, newid=100, pool="no") == "Permission check failed (pool 'no' does not exist)"
    task = api.start("POST", CLONE, newid=100, pool="lab", full=1)
    cluster.clock.advance(1.0)
    assert not cluster.access.pools["lab"].guests
    api.finish(task)
    assert cluster.access.pools["lab"].guests == {100}
