"""Containers, of which there are no recordings; the texts are those of pve-container."""

from __future__ import annotations

import pytest

from tests.simulator import Cluster
from tests.simulator.engine.model import Volume

from .api import Api

CT = "/nodes/pve1/lxc/200"
TEMPLATE = "local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst"


@pytest.fixture
def cluster(cluster: Cluster) -> Cluster:
    cluster.add_ct(200, "web", config={"tags": "a"})
    cluster.storages.volumes["pve1", TEMPLATE] = Volume(TEMPLATE, 10**8, "tzst", "vztmpl", None, 0)
    return cluster


def test_create(api: Api) -> None:
    given = {
        "rootfs": "local-lvm:4",
        "net0": "name=eth0,bridge=vmbr0,ip=dhcp",
        "mp0": "local-lvm:1,mp=/data,backup=yes",
    }
    assert api.run("POST", "/nodes/pve1/lxc", vmid=201, ostemplate=TEMPLATE, hostname="db", **given) == "OK"
    config = api.data("GET", "/nodes/pve1/lxc/201/config")
    assert config["rootfs"] == "local-lvm:vm-201-disk-0,size=4G"
    assert config["mp0"] == "local-lvm:vm-201-disk-1,mp=/data,backup=1,size=1G"
    assert config["net0"].startswith("name=eth0,bridge=vmbr0,hwaddr=BC:24:11:")
    assert config["net0"].endswith(",ip=dhcp,type=veth")
    assert (config["ostype"], config["unprivileged"], config["memory"], config["swap"]) == ("debian", 1, 512, 512)


def test_a_container_that_cannot_be_made_leaves_nothing(cluster: Cluster, api: Api) -> None:
    status = api.run("POST", "/nodes/pve1/lxc", vmid=201, ostemplate="local:vztmpl/none.tar.zst", storage="local-lvm")
    assert status.startswith("unable to create CT 201 - command 'tar xpf")
    assert 201 not in cluster.guests
    assert cluster.storages.of_guest("pve1", 201) == []


def test_ids_are_taken_across_the_cluster(api: Api) -> None:
    refused = api.refused("POST", "/nodes/pve2/lxc", vmid=200, ostemplate=TEMPLATE)
    assert refused == "500 CT 200 already exists on node 'pve1'"


def test_power_is_refused_at_once(api: Api) -> None:
    assert api.refused("POST", f"{CT}/status/stop") == "500 CT 200 not running"
    assert api.refused("POST", f"{CT}/status/shutdown") == "500 CT 200 not running"
    assert api.refused("POST", f"{CT}/status/reboot") == "500 VM 200 not running"
    assert api.run("POST", f"{CT}/status/start") == "OK"
    assert api.refused("POST", f"{CT}/status/start") == "500 CT 200 already running"
    assert api.data("GET", f"{CT}/status/current")["status"] == "running"
    assert api.run("POST", f"{CT}/status/reboot") == "OK"
    assert api.data("GET", f"{CT}/status/current")["status"] == "running"


def test_a_container_that_ignores_its_shutdown(cluster: Cluster, api: Api) -> None:
    api.run("POST", f"{CT}/status/start")
    cluster.guests[200].behaviour.acpi = False
    assert api.run("POST", f"{CT}/status/shutdown", timeout=5) == "container did not stop"
    assert api.run("POST", f"{CT}/status/shutdown", timeout=5, forceStop=1) == "OK"
    assert api.data("GET", f"{CT}/status/current")["status"] == "stopped"


def test_what_waits_for_the_next_start(api: Api) -> None:
    api.run("POST", f"{CT}/status/start")
    api.data("PUT", f"{CT}/config", cores=4, memory=1024, nameserver="10.0.0.1,10.0.0.2", features="nesting=1")
    pending = {row["key"]: row for row in api.data("GET", f"{CT}/pending")}
    assert (pending["cores"], pending["memory"]) == ({"key": "cores", "value": 4}, {"key": "memory", "value": 1024})
    assert pending["nameserver"] == {"key": "nameserver", "pending": "10.0.0.1 10.0.0.2"}
    assert pending["features"] == {"key": "features", "pending": "nesting=1"}
    assert "nameserver" not in api.data("GET", f"{CT}/config", current=1)
    api.data("PUT", f"{CT}/config", revert="features")
    api.run("POST", f"{CT}/status/reboot")
    config = api.data("GET", f"{CT}/config", current=1)
    assert config["nameserver"] == "10.0.0.1 10.0.0.2"
    assert "features" not in config


def test_what_the_server_rewrites(cluster: Cluster, api: Api) -> None:
    before = api.data("GET", f"{CT}/config")["net0"]
    api.data("PUT", f"{CT}/config", net0="name=eth0,bridge=vmbr1", tags="Zoo,alpha,zoo", description="one\ntwo\n\n")
    config = api.data("GET", f"{CT}/config")
    assert config["net0"] != before  # a MAC that is not given is made up anew
    assert config["tags"] == "alpha;zoo"
    assert config["description"] == "one\ntwo\n"
    api.data("PUT", f"{CT}/config", description="")
    assert "description" not in api.data("GET", f"{CT}/config")


def test_mount_points_come_and_go(cluster: Cluster, api: Api) -> None:
    api.data("PUT", f"{CT}/config", mp0="local-lvm:2,mp=/data")
    volume = "local-lvm:vm-200-disk-1"
    assert api.data("GET", f"{CT}/config")["mp0"] == f"{volume},mp=/data,size=2G"
    api.data("PUT", f"{CT}/config", delete="mp0")
    config = api.data("GET", f"{CT}/config")
    assert "mp0" not in config
    assert config["unused0"] == volume
    api.data("PUT", f"{CT}/config", mp1=f"{volume},mp=/again")
    config = api.data("GET", f"{CT}/config")
    assert "unused0" not in config
    assert config["mp1"] == f"{volume},mp=/again,size=2G"
    api.data("PUT", f"{CT}/config", delete="mp1")
    api.data("PUT", f"{CT}/config", delete="unused0")
    assert [found.volid for found in cluster.storages.of_guest("pve1", 200)] == ["local-lvm:vm-200-disk-0"]


def test_refused_writes_change_nothing(api: Api) -> None:
    before = api.data("GET", f"{CT}/config")
    assert api.refused("PUT", f"{CT}/config", delete="memory") == "500 unable to delete required option 'memory'"
    assert api.refused("PUT", f"{CT}/config", unprivileged=0) == "500 unable to modify read-only option: 'unprivileged'"
    assert api.refused("PUT", f"{CT}/config") == "500 no options specified"
    stale = api.refused("PUT", f"{CT}/config", cores=3, digest="0" * 40)
    assert stale == "500 detected modified configuration - file changed by other user? Try again."
    assert api.call("PUT", f"{CT}/config", cores=3, mp0="nosuch:1,mp=/x").status == 500
    assert api.data("GET", f"{CT}/config") == before


def test_resize(api: Api) -> None:
    assert api.run("PUT", f"{CT}/resize", disk="rootfs", size="+1G") == "OK"
    assert api.data("GET", f"{CT}/config")["rootfs"].endswith("size=5G")
    assert api.refused("PUT", f"{CT}/resize", disk="rootfs", size="2G") == "500 unable to shrink disk size"
    assert api.refused("PUT", f"{CT}/resize", disk="rootfs", size="5G") == "500 disk is already at specified size"


def test_snapshots(cluster: Cluster, api: Api) -> None:
    path = f"{CT}/snapshot"
    assert api.run("POST", path, snapname="one", description="first") == "OK"
    assert api.run("POST", path, snapname="one") == "snapshot name 'one' already used"
    rows = {row["name"]: row for row in api.data("GET", path)}
    assert rows["one"]["description"] == "first\n"
    assert rows["current"]["parent"] == "one"
    api.data("PUT", f"{CT}/config", hostname="other")
    assert api.run("POST", f"{path}/one/rollback", start=1) == "OK"
    assert api.data("GET", f"{CT}/config")["hostname"] == "web"
    assert api.run("DELETE", f"{path}/one") == "OK"
    assert api.run("DELETE", f"{path}/one") == "snapshot 'one' does not exist"


def test_raw_files_have_no_snapshots(cluster: Cluster, api: Api) -> None:
    cluster.add_ct(210, disk="local:4")
    assert api.data("GET", "/nodes/pve1/lxc/210/feature", feature="snapshot") == {"hasFeature": 0}
    assert api.run("POST", "/nodes/pve1/lxc/210/snapshot", snapname="s1") == "snapshot feature is not available"


def test_clone(cluster: Cluster, api: Api) -> None:
    cluster.add_storage("ceph", "rbd", content=("images", "rootdir"), shared=True)
    cluster.add_ct(900, "base", disk="ceph:4", template=True)
    assert api.run("POST", "/nodes/pve1/lxc/900/clone", newid=201, hostname="linked") == "OK"
    assert api.run("POST", f"{CT}/clone", newid=202) == "OK"
    source, clone = api.data("GET", f"{CT}/config"), api.data("GET", "/nodes/pve1/lxc/202/config")
    assert clone["hostname"] == "web"
    assert clone["net0"] != source["net0"]
    assert api.config(201)["rootfs"] == "ceph:base-900-disk-0/vm-201-disk-0,size=4G"
    assert api.run("DELETE", "/nodes/pve1/lxc/900").startswith("base volume 'ceph:base-900-disk-0' is still in use")
    api.run("POST", f"{CT}/status/start")
    running = api.refused("POST", f"{CT}/clone", newid=203)
    assert running == "500 Full clone of a running container is only possible from a snapshot"
    assert "lock" not in api.data("GET", f"{CT}/config")
    assert 203 not in cluster.guests


def test_source_and_target_are_locked_while_cloning(cluster: Cluster, api: Api) -> None:
    upid = api.data("POST", f"{CT}/clone", newid=202)
    assert cluster.guests[200].config["lock"] == "disk"
    assert cluster.guests[202].config["lock"] == "create"
    assert api.refused("PUT", f"{CT}/config", cores=2) == "500 CT is locked (disk)"
    cluster.tasks.all[upid].process.interrupt()  # type: ignore[union-attr]
    cluster.clock.advance(5)
    assert cluster.tasks.all[upid].status == "clone failed: interrupted by signal"
    assert 202 not in cluster.guests
    assert "lock" not in cluster.guests[200].config


def test_migration(cluster: Cluster, api: Api) -> None:
    assert api.data("GET", f"{CT}/migrate") == {
        "running": 0,
        "allowed-nodes": ["pve2", "pve3"],
        "not-allowed-nodes": {},
    }
    assert api.run("POST", f"{CT}/migrate", target="pve2") == "OK"
    assert api.refused("GET", f"{CT}/config") == "500 Configuration file 'nodes/pve1/lxc/200.conf' does not exist"
    assert cluster.storages.of_guest("pve1", 200) == []
    there = "/nodes/pve2/lxc/200"
    api.run("POST", f"{there}/status/start")
    refused = api.refused("POST", f"{there}/migrate", target="pve1")
    assert refused == "500 can't migrate running container without --online or --restart"
    assert api.run("POST", f"{there}/migrate", target="pve1", online=1) == "migration aborted"
    assert api.run("POST", f"{there}/migrate", target="pve1", restart=1) == "OK"
    assert api.data("GET", f"{CT}/status/current")["status"] == "running"


def test_addresses(cluster: Cluster, api: Api) -> None:
    assert api.data("GET", f"{CT}/interfaces") is None
    api.data("PUT", f"{CT}/config", net0="name=eth0,bridge=vmbr0,ip=10.1.2.3/24")
    api.run("POST", f"{CT}/status/start")
    rows = {row["name"]: row for row in api.data("GET", f"{CT}/interfaces")}
    assert rows["eth0"]["inet"] == "10.1.2.3/24"
    assert {"ip-address": "10.1.2.3", "ip-address-type": "inet", "prefix": 24} in rows["eth0"]["ip-addresses"]


def test_destroy(cluster: Cluster, api: Api) -> None:
    api.data("PUT", f"{CT}/config", protection=1)
    assert api.refused("DELETE", CT) == "500 can't remove CT 200 - protection mode enabled"
    api.data("PUT", f"{CT}/config", protection=0)
    api.run("POST", f"{CT}/status/start")
    assert api.refused("DELETE", CT) == "500 unable to destroy CT 200 - container is running"
    assert api.run("DELETE", CT, force=1) == "OK"
    assert 200 not in cluster.guests
    assert cluster.storages.of_guest("pve1", 200) == []
