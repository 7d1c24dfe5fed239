"""Configuration on the simulated cluster: what happens between looking and writing, and what only a server can show."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.simulator import Cluster, Fault
from tests.simulator.adapter import ClusterAdapter
from tests.simulator.engine.model import Volume

from . import world as worlds
from .world import World, make_world

GIB = 1024**3
CONFIG = r"/nodes/pve1/(qemu|lxc)/\d+/config$"


class Meddler(ClusterAdapter):
    """Lets somebody else act just before the first request that matches."""

    acts: tuple[str, str, Callable[[Cluster], None]] | None = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        acts = type(self).acts
        if acts is not None and request.method == acts[0] and re.search(acts[1], (request.url or "").partition("?")[0]):
            type(self).acts = None
            acts[2](self.cluster)
        return super().send(request, *args, **kwargs)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(worlds, "ClusterAdapter", Meddler)
    monkeypatch.setattr(Meddler, "acts", None)
    return make_world(monkeypatch, lambda cluster: cluster.add_ct(200, "box", running=True))


def config(world: World, vmid: int) -> dict[str, str]:
    return {key: str(value) for key, value in world.cluster.guests[vmid].config.items()}


def run(world: World, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    result = world.run("proxmox_vm_config", options, check_mode=check_mode)
    assert not result["failed"], (result["msg"], result.get("log"))
    return result


def refused(world: World, **options: Any) -> str:
    """Run what must fail before anything is written; return the message."""
    before = world.cluster.state()["guests"]
    result = world.run("proxmox_vm_config", options)
    assert result["failed"]
    assert result["changed"] is False
    assert world.cluster.state()["guests"] == before
    return str(result["msg"])


def twice(world: World, **options: Any) -> dict[str, Any]:
    """Run what must do what was foretold, and nothing the second time; return the first result."""
    foretold = run(world, check_mode=True, **options)
    done = run(world, **options)
    assert [call["summary"] for call in done["calls"]] == [call["summary"] for call in foretold["calls"]]
    assert done["diff"] == foretold["diff"]
    assert not run(world, **options)["changed"]
    return done


def test_somebody_else_changes_the_guest_between_look_and_write(world: World) -> None:
    def other(cluster: Cluster) -> None:
        cluster.guests[101].config["tags"] = "theirs"
        cluster.guests[101].config["net0"] = "virtio=BC:24:11:00:00:01,bridge=vmbr7,firewall=1"

    Meddler.acts = ("POST", CONFIG, other)
    result = run(world, vmid=101, net={"net0": {"tag": 20}})
    assert config(world, 101)["tags"] == "theirs"
    assert config(world, 101)["net0"] == "virtio=BC:24:11:00:00:01,bridge=vmbr7,firewall=1,tag=20"
    assert len(result["calls"]) == 1


def test_somebody_else_grows_the_disk_further_between_look_and_resize(world: World) -> None:
    def other(cluster: Cluster) -> None:
        cluster.guests[101].config["scsi0"] = str(cluster.guests[101].config["scsi0"]).replace("8G", "16G")

    Meddler.acts = ("PUT", r"/resize$", other)
    result = world.run("proxmox_vm_config", {"vmid": 101, "disks": {"scsi0": {"size": 12}}})
    assert result["failed"]
    assert "is 16G, and 12G is wanted" in result["msg"]


def test_a_backup_under_way_is_waited_for(world: World) -> None:
    with requests.Session() as session:
        session.mount("https://", ClusterAdapter(world.cluster))
        form = {"vmid": "101", "storage": "local"}
        url = "https://pve1:8006/api2/json/nodes/pve1/vzdump"
        assert session.post(url, data=form, headers=world.cluster.token_header()).status_code == 200
    world.cluster.clock.advance(0.5)
    assert world.cluster.guests[101].config["lock"] == "backup"
    done = run(world, vmid=101, cores=3)
    assert config(world, 101)["cores"] == "3"
    assert done["guest"]["lock"] is None


def test_a_lock_that_nobody_holds_is_told(world: World) -> None:
    world.cluster.set_lock(101, "backup")
    assert "qm unlock 101" in refused(world, vmid=101, cores=3)
    assert not run(world, vmid=101, cores=1)["changed"]


def test_the_lock_file_is_held_for_a_while(world: World) -> None:
    world.cluster.hold_lock(101, seconds=25)
    run(world, vmid=101, cores=3)
    assert config(world, 101)["cores"] == "3"
    assert not run(world, vmid=101, cores=3)["changed"]


def test_a_guest_that_moves_between_look_and_write_is_found_again(world: World) -> None:
    def other(cluster: Cluster) -> None:
        cluster.guests[102].node = "pve3"

    Meddler.acts = ("POST", r"/nodes/pve2/qemu/102/config$", other)
    result = run(world, vmid=102, node="pve2", cores=3)
    assert config(world, 102)["cores"] == "3"
    assert result["guest"]["node"] == "pve3"


def test_hibernated(world: World) -> None:
    assert not world.run("proxmox_vm_power", {"vmid": 100, "state": "hibernated"})["failed"]
    assert "is hibernated and cannot be configured" in refused(world, vmid=100, cores=4)
    assert not run(world, vmid=100, cores=2)["changed"]


def test_allocate_import_attach_detach_destroy(world: World) -> None:
    image = Volume("local:import/debian.qcow2", 2 * GIB, "qcow2", "import", None, 0)
    world.cluster.storages.volumes["pve1", image.volid] = image
    wish: dict[str, Any] = {"storage": "local-lvm", "import_from": image.volid, "size": 5, "ssd": True}
    made = twice(world, vmid=101, disks={"scsi1": wish, "scsi2": {"storage": "local-lvm", "size": 1}})
    assert re.fullmatch(r"local-lvm:vm-101-disk-\d+,size=5G,ssd=1", config(world, 101)["scsi1"])
    assert [call["summary"] for call in made["calls"]] == [
        "configure VM 101: scsi1, scsi2",
        "grow scsi1 of VM 101 to 5G",
    ]
    volume = config(world, 101)["scsi2"].partition(",")[0]

    twice(world, vmid=101, absent=["scsi2"])
    assert config(world, 101)["unused0"] == volume
    twice(world, vmid=101, disks={"scsi3": {"volume": "unused0", "discard": True}})
    assert config(world, 101)["scsi3"] == f"{volume},discard=on,size=1G"
    assert "unused0" not in config(world, 101)
    twice(world, vmid=101, absent=["scsi3"], destroy_disks=True)
    assert not {"scsi3", "unused0"} & set(config(world, 101))
    assert world.cluster.storages.find("pve1", volume) is None


def test_cd_drives(world: World) -> None:
    iso = Volume("local:iso/debian.iso", GIB, "raw", "iso", None, 0)
    world.cluster.storages.volumes["pve1", iso.volid] = iso
    twice(world, vmid=101, disks={"ide0": {"cdrom": "none"}}, boot=["ide0", "scsi0"])
    assert config(world, 101)["boot"] == "order=ide0;scsi0"
    twice(world, vmid=101, disks={"ide0": {"iso": iso.volid}})
    assert config(world, 101)["ide0"].startswith(f"{iso.volid},media=cdrom")
    twice(world, vmid=101, disks={"ide0": {"iso": "none"}})
    twice(world, vmid=101, disks={"ide0": {"cloudinit": "local-lvm"}}, ciuser="x")
    assert "cloudinit" in config(world, 101)["ide0"]


def test_a_reboot_applies_everything_and_the_guest_runs_again(world: World) -> None:
    done = twice(world, vmid=100, cores=4, disks={"scsi0": {"size": 10, "ssd": True}}, reboot="if_required")
    assert [call["path"].rpartition("/")[2] for call in done["calls"]] == ["resize", "config", "reboot"]
    assert done["pending"] == {}
    assert done["reboot_required"] is False
    assert done["guest"]["status"] == "running"
    assert config(world, 100)["cores"] == "4"
    assert config(world, 100)["scsi0"].endswith("size=10G,ssd=1")


def test_what_waits_is_told_and_not_written_again(world: World) -> None:
    done = twice(world, vmid=100, cores=4)
    assert done["pending"] == {"cores": {"current": "2", "pending": "4", "delete": False}}
    assert done["reboot_required"] is True
    assert config(world, 100)["cores"] == "2"
    later = run(world, vmid=100, reboot="if_required")
    assert [call["summary"] for call in later["calls"]] == ["reboot VM 100"]
    assert config(world, 100)["cores"] == "4"


def test_a_container(world: World) -> None:
    done = twice(
        world,
        vmid=200,
        name="crate",
        features={"nesting": True},
        net={"net0": {"bridge": "vmbr0", "ip": "dhcp"}},
        disks={"rootfs": {"size": 8}, "mp0": {"storage": "local-lvm", "size": 1, "mp": "/data"}},
        reboot="if_required",
    )
    assert done["guest"]["name"] == "crate"
    assert config(world, 200)["features"] == "nesting=1"
    assert config(world, 200)["net0"].startswith("name=eth0,bridge=vmbr0,hwaddr=")
    assert "size=8G" in config(world, 200)["rootfs"]


def test_pool(world: World) -> None:
    done = twice(world, vmid=100, pool="test", cores=2)
    assert done["guest"]["pool"] == "test"
    gone = twice(world, name="web", pool="")
    assert gone["guest"]["pool"] is None


def test_password(world: World) -> None:
    twice(world, vmid=101, cipassword="geheim")
    stored = config(world, 101)["cipassword"]
    again = run(world, vmid=101, cipassword="anderes", update_password="always")
    assert again["changed"]
    assert config(world, 101)["cipassword"] != stored
    assert "geheim" not in str(again)
    assert "anderes" not in str(again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"colour": "red"}}, "colour"),
        ({"options": {"args": "-x"}}, "Only root@pam with a password"),
        ({"tags": ["not a tag!"]}, "invalid characters in tag|tags"),
        ({"net": {"net0": {"tag": 5000}}}, "net0"),
        ({"disks": {"scsi1": {"storage": "nowhere", "size": 1}}}, "nowhere"),
        ({"pool": "nowhere"}, "nowhere"),
        ({"swap": 1}, "'swap' is an option of containers"),
        ({"boot": ["scsi9"]}, "boot names scsi9, and VM 101 has no such device"),
        ({"ostype": "dos"}, "ostype"),
    ],
    ids=str,
)
def test_one_clear_message(world: World, options: dict[str, Any], message: str) -> None:
    assert re.search(message, refused(world, vmid=101, **options))


def test_what_was_done_before_a_failure_is_said(world: World) -> None:
    world.cluster.add_fault(Fault(method="POST", path=CONFIG, kind="lock_timeout", times=1000))
    result = world.run("proxmox_vm_config", {"vmid": 101, "cores": 3, "disks": {"scsi0": {"size": 12}}, "timeout": 60})
    assert result["failed"]
    assert result["changed"]
    assert "grow scsi0 of VM 101 to 12G" in result["msg"]
    assert [call["summary"] for call in result["calls"]] == ["grow scsi0 of VM 101 to 12G"]
    world.cluster.faults.clear()
    assert [call["summary"] for call in run(world, vmid=101, cores=3, disks={"scsi0": {"size": 12}})["calls"]] == [
        "configure VM 101: cores"
    ]


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"vmid": 101, "node": "pve1", "cores": 1}, 2),
        ({"name": "db", "cores": 1}, 3),
        ({"vmid": 101, "node": "pve1", "cores": 3}, 4),
        ({"vmid": 101, "node": "pve1", "cores": 3, "disks": {"scsi0": {"size": 12}}}, 6),
        ({"vmid": 200, "node": "pve1", "type": "lxc", "cores": 3}, 4),
    ],
    ids=str,
)
def test_requests(world: World, options: dict[str, Any], most: int) -> None:
    world.cluster.log.clear()
    run(world, **options)
    assert len([entry for entry in world.cluster.log if "/tasks/" not in entry.template]) <= most
