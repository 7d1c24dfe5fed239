"""The cluster that the contract suite runs on where no real one is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.simulator import Cluster, RealClock, Server, serve


@contextmanager
def serve_cluster() -> Iterator[Server]:
    """Serve three nodes with a template, in real time but some times faster; nothing unmodelled may be asked."""
    cluster = Cluster(clock=RealClock(speed=4.0))
    net = "virtio=BC:24:11:00:00:01,bridge=vmbr0"
    cluster.add_template(9000, "template", disk="local-lvm:1", config={"net0": net, "memory": 160, "ostype": "l26"})
    with serve(cluster) as server:
        yield server
    assert cluster.unmodelled == []
