"""Three workers of each daemon on each node: what waits for them, what does not, and what a proxy makes of a long wait."""

from __future__ import annotations

import pytest

from tests.simulator import Cluster
from tests.simulator.engine.clock import Process
from tests.simulator.engine.http import Request, Response

from .api import Api


def ask(cluster: Cluster, method: str, path: str, body: str = "", entry: str | None = None) -> Process[Response]:
    """Send a request and do not wait for its answer."""
    headers = {**cluster.token_header(), "Content-Type": "application/x-www-form-urlencoded"}
    request = Request(method, f"/api2/json{path}", headers, body.encode())
    return cluster.scheduler.spawn(cluster.serve(request, entry))


def status(process: Process[Response]) -> int | None:
    return process.result.status if process.result is not None else None


@pytest.fixture(name="busy")
def _busy(cluster: Cluster) -> list[Process[Response]]:
    """Three writes that wait ten seconds for a lock each, in the three workers of pvedaemon on pve1."""
    for vmid in range(100, 104):
        cluster.add_vm(vmid)
        cluster.hold_lock(vmid)
    return [ask(cluster, "PUT", f"/nodes/pve1/qemu/{vmid}/config", "cores=2") for vmid in range(100, 103)]


def test_a_fourth_protected_request_waits_for_a_worker(cluster: Cluster, busy: list[Process[Response]]) -> None:
    fourth = ask(cluster, "GET", "/nodes/pve1/qemu/100/status/current")
    cluster.clock.advance(9.0)
    assert [status(process) for process in (*busy, fourth)] == [None] * 4
    cluster.clock.advance(2.0)
    assert [status(process) for process in (*busy, fourth)] == [500, 500, 500, 200]


def test_what_pveproxy_answers_itself_does_not_wait(cluster: Cluster, busy: list[Process[Response]]) -> None:
    others = [
        ask(cluster, "GET", "/nodes/pve1/qemu/100/config"),
        ask(cluster, "GET", "/cluster/resources"),
        ask(cluster, "GET", "/nodes/pve2/qemu"),
    ]
    cluster.clock.advance(0.1)
    assert [status(process) for process in others] == [200] * 3
    assert not any(process.done for process in busy)


def test_pveproxy_has_three_workers_too(cluster: Cluster) -> None:
    requests = [ask(cluster, "GET", "/cluster/resources") for _number in range(6)]
    cluster.clock.advance(cluster.durations.request * 1.5)
    assert [status(process) for process in requests] == [200] * 3 + [None] * 3
    cluster.clock.advance(cluster.durations.request)
    assert [status(process) for process in requests] == [200] * 6


def test_a_proxy_gives_up_after_thirty_seconds_and_the_job_is_done_nevertheless(
    cluster: Cluster, busy: list[Process[Response]]
) -> None:
    # Two rounds of waiting go before it, and then its own.
    waiting = [ask(cluster, "PUT", "/nodes/pve1/qemu/103/config", "cores=2") for _number in range(6)]
    last = ask(cluster, "POST", "/nodes/pve1/qemu/103/status/start")
    cluster.clock.advance(29.0)
    assert status(last) is None
    cluster.clock.advance(2.0)
    assert [status(process) for process in waiting] == [500] * 3 + [596] * 3
    assert status(last) == 596
    cluster.clock.advance(10.0)
    assert [task.type for task in cluster.tasks.all.values()] == ["qmstart"]


def test_a_request_for_another_node_takes_its_workers(cluster: Cluster, busy: list[Process[Response]]) -> None:
    cluster.add_vm(200, node="pve2")
    here = ask(cluster, "GET", "/nodes/pve1/qemu", entry="pve2")
    there = ask(cluster, "PUT", "/nodes/pve2/qemu/200/config", "cores=2")
    cluster.clock.advance(1.0)
    assert (status(here), status(there)) == (None, 200)


def test_tasks_take_no_worker(api: Api, cluster: Cluster) -> None:
    cluster.add_template(9000, "debian", disk="local:20")
    for number in range(5):
        api.start("POST", "/nodes/pve1/qemu/9000/clone", newid=100 + number, full=1)
    assert sum(task.end is None for task in cluster.tasks.all.values()) == 5
    assert not cluster.workers("pve1", "pvedaemon").held
    began = cluster.now
    api.data("GET", "/nodes/pve1/qemu")
    assert cluster.now - began < 0.1
