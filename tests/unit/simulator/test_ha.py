"""High availability: what only queues, what follows seconds later, and what happens when it cannot."""

from __future__ import annotations

import pytest

from tests.simulator import Cluster

from .api import Api

VM = "/nodes/pve1/qemu/100"


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.add_vm(100, "web", disk="shared:4")
    return cluster


@pytest.fixture
def api(cluster: Cluster) -> Api:
    made = Api(cluster)
    made.data("POST", "/cluster/ha/resources", sid="vm:100", state="stopped")
    cluster.clock.advance(30)
    return made


def state(api: Api, node: str = "pve1") -> tuple[str, str]:
    row = api.data("GET", f"/nodes/{node}/qemu/100/status/current")
    return row["status"], row["ha"]["state"]


def test_a_start_ends_before_anything_happened(cluster: Cluster, api: Api) -> None:
    assert state(api) == ("stopped", "stopped")
    assert api.run("POST", f"{VM}/status/start") == "OK"
    assert state(api) == ("stopped", "stopped")
    cluster.clock.advance(30)
    assert state(api) == ("running", "started")
    started = [task for task in cluster.tasks.ended if task.type == "qmstart"]
    assert [task.authid for task in started] == ["root@pam"]


def test_a_stop_changes_the_requested_state(cluster: Cluster, api: Api) -> None:
    api.data("PUT", "/cluster/ha/resources/vm:100", state="started")
    cluster.clock.advance(30)
    assert api.run("POST", f"{VM}/status/stop") == "OK"
    assert state(api)[0] == "running"
    cluster.clock.advance(30)
    assert state(api) == ("stopped", "stopped")
    assert api.data("GET", "/cluster/ha/resources/vm:100")["state"] == "stopped"


def test_what_stops_by_itself_is_started_again(cluster: Cluster, api: Api) -> None:
    api.data("PUT", "/cluster/ha/resources/vm:100", state="started")
    cluster.clock.advance(30)
    cluster.guests[100].power = None
    cluster.clock.advance(10)
    assert state(api) == ("running", "started")


def test_a_migration_is_queued(cluster: Cluster, api: Api) -> None:
    api.data("PUT", "/cluster/ha/resources/vm:100", state="started")
    cluster.clock.advance(30)
    assert api.run("POST", f"{VM}/migrate", target="pve2", online=1) == "OK"
    assert cluster.guests[100].node == "pve1"
    cluster.clock.advance(60)
    assert cluster.guests[100].node == "pve2"
    assert state(api, "pve2") == ("running", "started")


def test_a_guest_that_never_starts_ends_in_error(cluster: Cluster, api: Api) -> None:
    cluster.guests[100].behaviour.start_error = "start failed: QEMU exited with code 1"
    api.run("POST", f"{VM}/status/start")
    cluster.clock.advance(400)
    node = cluster.guests[100].node
    assert state(api, node)[1] == "error"
    refused = api.run("POST", f"/nodes/{node}/qemu/100/status/start")
    assert refused == "command 'ha-manager set vm:100 --state started' failed: exit code 255"
    text = api.refused("PUT", "/cluster/ha/resources/vm:100", state="started")
    assert text == "500 service 'vm:100' in error state, must be disabled and fixed first"
    api.data("PUT", "/cluster/ha/resources/vm:100", state="disabled")
    cluster.clock.advance(30)
    assert state(api, node)[1] == "stopped"


def test_a_dead_node_is_fenced_and_its_guests_run_elsewhere(cluster: Cluster, api: Api) -> None:
    api.data("PUT", "/cluster/ha/resources/vm:100", state="started")
    cluster.clock.advance(30)
    api.run("POST", f"{VM}/migrate", target="pve3", online=1)
    cluster.clock.advance(60)
    cluster.node_down("pve3")
    cluster.clock.advance(240)
    assert cluster.guests[100].node in ("pve1", "pve2")
    assert cluster.guests[100].running


def test_nodes_have_a_state_once_the_manager_runs(cluster: Cluster) -> None:
    api = Api(cluster)
    assert all("hastate" not in row for row in api.data("GET", "/cluster/resources", type="node"))
    api.data("POST", "/cluster/ha/resources", sid="vm:100", state="stopped")
    cluster.clock.advance(10)
    assert {row["hastate"] for row in api.data("GET", "/cluster/resources", type="node")} == {"online"}


def test_resources(api: Api) -> None:
    assert api.refused("POST", "/cluster/ha/resources", sid="100").endswith("resource ID 'vm:100' already defined")
    assert (
        api.refused("POST", "/cluster/ha/resources", sid="vm:777") == "500 resource 'vm:777' does not exist in cluster"
    )
    group = api.refused("POST", "/cluster/ha/resources", sid="vm:100", group="some")
    assert group == "500 invalid parameter 'group': ha groups have been migrated to rules"
    assert api.refused("GET", "/cluster/ha/resources/vm:777") == "500 no such resource 'vm:777'"
    assert (
        api.refused("DELETE", "/cluster/ha/resources/vm:777") == "500 cannot delete service 'vm:777', not HA managed!"
    )


def test_a_guest_is_only_destroyed_with_purge(cluster: Cluster, api: Api) -> None:
    refused = api.refused("DELETE", VM)
    assert refused == "500 unable to remove VM 100 - used in HA resources and purge parameter not set."
    assert api.run("DELETE", VM, purge=1) == "OK"
    assert api.data("GET", "/cluster/ha/resources") == []


def test_ignored_resources_are_nobodys(cluster: Cluster, api: Api) -> None:
    api.data("PUT", "/cluster/ha/resources/vm:100", state="ignored")
    cluster.clock.advance(20)
    assert api.run("POST", f"{VM}/status/start") == "OK"
    assert api.data("GET", f"{VM}/status/current")["ha"] == {"managed": 0}
    assert api.data("GET", f"{VM}/status/current")["status"] == "running"
