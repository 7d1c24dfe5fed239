"""How requests are read, in which order they are checked, and what faults do to them."""

from __future__ import annotations

import pytest

from tests.simulator import Cluster, Fault, Request
from tests.simulator.engine.http import parse_form

from .api import Api

VM = "/nodes/pve1/qemu/100"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("tags=a;b", {"tags": "a"}),
        ("net0=virtio,bridge=vmbr0", {"net0": "virtio,bridge"}),
        ("net0=virtio%2Cbridge%3Dvmbr0", {"net0": "virtio,bridge=vmbr0"}),
        ("a=x+y%20z", {"a": "x y z"}),
        ("a=1&a=2", {"a": ["1", "2"]}),
        ("a=", {"a": ""}),
    ],
)
def test_forms_are_split_as_the_server_splits_them(text: str, values: dict[str, str]) -> None:
    assert parse_form(text) == values


def test_an_unencoded_semicolon_loses_data(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    assert api.raw("PUT", f"{VM}/config", "tags=a;b").status == 200
    assert api.config(100)["tags"] == "a"


def test_json_bodies_have_real_booleans(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    assert api.raw("PUT", f"{VM}/config", '{"onboot": true, "cores": 2}', "application/json").status == 200
    assert api.config(100) | {"onboot": 1, "cores": 2} == api.config(100)


def test_a_parameter_twice_with_two_values(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    response = api.raw("PUT", f"{VM}/config?cores=2", "cores=3")
    assert response.status == 400
    assert response.json()["errors"] == {
        "cores": "duplicate parameter (already defined in URI) with conflicting values!"
    }


def test_a_body_where_none_may_be(api: Api) -> None:
    assert api.raw("DELETE", VM, "purge=1").reason == "Unexpected content for method 'DELETE'"


def test_permission_comes_before_the_node_and_the_node_before_parameters(cluster: Cluster) -> None:
    cluster.add_vm(100)
    cluster.add_token("nobody@pve", "x")
    nobody = Api(cluster, cluster.token_header("nobody@pve", "x"))
    cluster.node_down("pve2")
    assert nobody.fail("GET", "/nodes/pve2/qemu/100/config") == "Permission check failed (/vms/100, VM.Audit)"
    api = Api(cluster)
    response = api.call("PUT", "/nodes/pve2/qemu/100/config", bogus=1)
    assert (response.status, response.body) == (595, b"")
    assert api.call("PUT", f"{VM}/config", bogus=1).status == 400


def test_a_node_without_network_takes_thirty_seconds_at_first(api: Api, cluster: Cluster) -> None:
    cluster.node_down("pve2", "timeout")
    first, second = api.call("GET", "/nodes/pve2/qemu"), api.call("GET", "/nodes/pve2/qemu")
    assert (first.reason, round(first.seconds)) == ("Connection timed out", 30)
    assert (second.reason, round(second.seconds)) == ("No route to host", 3)


def test_what_is_not_modelled_is_noted(api: Api, cluster: Cluster) -> None:
    assert api.call("GET", "/nodes/pve1/apt/versions").status == 501
    assert cluster.unmodelled == ["GET /nodes/{node}/apt/versions"]
    assert api.call("GET", "/nosuch").status == 501
    assert len(cluster.unmodelled) == 1


def test_every_request_is_in_the_log(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    api.call("GET", "/version")
    api.call("PUT", f"{VM}/config", cores=2)
    assert [(entry.method, entry.template, entry.status) for entry in cluster.log] == [
        ("GET", "/version", 200),
        ("PUT", "/nodes/{node}/qemu/{vmid}/config", 200),
    ]
    assert [entry.path for entry in cluster.log.writes()] == [f"{VM}/config"]


@pytest.mark.parametrize(
    ("fault", "status", "drop", "seconds", "done"),
    [
        (Fault(kind="reset"), 0, "reset_before", 0, False),
        (Fault(kind="reset", when="after"), 0, "reset_after", 0, True),
        (Fault(kind="silence"), 0, "silence", 0, False),
        (Fault(kind="silence", when="after"), 0, "silence", 0, True),
        (Fault(kind="truncate", when="after"), 200, "truncate", 0, True),
        (Fault(kind=595), 595, None, 0, False),
        (Fault(kind=596), 596, None, 30, False),
        (Fault(kind=596, when="after"), 596, None, 30, True),
        (Fault(kind=401), 401, None, 3, False),
        (Fault(kind="ticket_expired"), 401, None, 3, False),
        (Fault(kind="lock_timeout"), 500, None, 10, False),
        (Fault(kind="node_gone"), 595, None, 0, False),
    ],
    ids=lambda value: f"{value.kind}-{value.when}" if isinstance(value, Fault) else "",
)
def test_faults(
    api: Api, cluster: Cluster, fault: Fault, status: int, drop: str | None, seconds: float, done: bool
) -> None:
    cluster.add_vm(100, node="pve2")
    fault.method, fault.path = "PUT", "/config$"
    cluster.add_fault(fault)
    began = cluster.now
    response = api.call("PUT", "/nodes/pve2/qemu/100/config", cores=3)
    assert (response.status, response.drop) == (status, drop)
    assert round(cluster.now - began) == seconds
    assert (cluster.guests[100].config["cores"] == "3") is done
    if fault.kind != "node_gone":
        assert api.call("PUT", "/nodes/pve2/qemu/100/config", cores=4).status == 200


def test_the_nth_request_that_matches(api: Api, cluster: Cluster) -> None:
    cluster.add_fault(Fault(method="GET", path="^/version", nth=2, kind=595, times=2))
    assert [api.call("GET", "/version").status for _number in range(5)] == [200, 595, 595, 200, 200]


def test_a_worker_that_was_not_started_and_one_whose_name_is_lost(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    cluster.add_fault(Fault(path="/start$", kind="no_worker_upid"))
    cluster.add_fault(Fault(path="/start$", kind="active_lock"))
    assert api.fail("POST", f"{VM}/status/start") == "got no worker upid - start worker failed"
    assert not cluster.tasks.all
    assert "'/var/log/pve/tasks/.active.lock' - got timeout" in api.fail("POST", f"{VM}/status/start")
    (task,) = cluster.tasks.all.values()
    assert api.finish(task) == "OK"


def test_a_node_that_loses_power_leaves_its_tasks_without_an_end(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000, disk="local:8")
    task = api.start("POST", "/nodes/pve1/qemu/9000/clone", newid=100, full=1)
    cluster.clock.advance(1.0)
    cluster.node_down("pve1")
    cluster.node_up("pve1")
    assert api.data("GET", f"/nodes/pve1/tasks/{task.upid}/status")["exitstatus"] == "unexpected status"
    assert api.config(100)["lock"] == "clone"


def test_equal_states_are_equal(cluster: Cluster) -> None:
    def make() -> dict[str, object]:
        other = Cluster(seed=len(states))
        other.add_vm(100, config={"cipassword": "x"}, running=True)
        other.add_snapshot(100, "one")
        return other.snapshot()

    states: list[dict[str, object]] = []
    states.append(make())
    states.append(make())
    assert states[0] == states[1]
    assert states[0] != cluster.snapshot()


def test_a_bare_request_names_nobody(cluster: Cluster) -> None:
    response = cluster.handle(Request("GET", "/api2/json/nodes"))
    assert (response.status, response.reason, response.body, round(response.seconds)) == (401, "No ticket", b"", 3)
