"""What the server makes of a VM's configuration: rewriting, pending changes, writes that stop half way."""

from __future__ import annotations

import re

import pytest

from tests.simulator import Cluster

from .api import Api

VM = "/nodes/pve1/qemu/100"
CONFIG = f"{VM}/config"


def mac(text: str) -> str:
    found = re.search(r"=([0-9A-F:]{17})", text)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("option", "given", "stored"),
    [
        ("tags", "b,A;b", "a;b"),
        ("description", "two\nlines\n\n", "two\nlines"),
        ("boot", "order=net0;scsi0", "order=net0;scsi0"),
        ("agent", "enabled=1", "enabled=1"),
        ("cpu", "cputype=host", "cputype=host"),
        ("cpuunits", "20000", 10000),
        ("onboot", "1", 1),
        ("memory", "2048", "2048"),
        ("cpulimit", "1.50", "1.50"),
        ("scsi0", "local:100/vm-100-disk-0.qcow2,iothread=on,discard=on,cache=none", None),
        ("ide2", "none", "none,media=cdrom"),
        ("efidisk0", "local:1,pre-enrolled-keys=on,efitype=4m", None),
    ],
)
def test_what_is_stored(api: Api, cluster: Cluster, option: str, given: str, stored: object) -> None:
    cluster.add_vm(100)
    api.data("PUT", CONFIG, **{option: given})
    wanted = {
        "scsi0": "local:100/vm-100-disk-0.qcow2,cache=none,discard=on,iothread=1,size=8G",
        "efidisk0": "local:100/vm-100-disk-1.qcow2,efitype=4m,pre-enrolled-keys=1,size=528K",
    }.get(option, stored)
    assert api.config(100)[option] == wanted


def test_an_empty_value_is_no_value(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, config={"description": "x", "tags": "a"})
    api.data("PUT", CONFIG, description="\n", tags="")
    assert not {"description", "tags"} & set(api.config(100))


def test_a_net_without_mac_gets_a_new_one_each_time(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    seen = set()
    for _number in range(3):
        api.data("PUT", CONFIG, net0="virtio,firewall=yes,bridge=vmbr0")
        text = api.config(100)["net0"]
        assert re.fullmatch(r"virtio=BC:24:11(:[0-9A-F]{2}){3},bridge=vmbr0,firewall=1", text)
        seen.add(mac(text))
    assert len(seen) == 3


def test_a_size_allocates_every_time_and_the_old_disk_becomes_unused(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    api.data("PUT", CONFIG, scsi1="local:1")
    api.data("PUT", CONFIG, scsi1="local:1")
    config = api.config(100)
    assert config["scsi1"] == "local:100/vm-100-disk-2.qcow2,size=1G"
    assert config["unused0"] == "local:100/vm-100-disk-1.qcow2"
    api.data("PUT", CONFIG, scsi2="local:100/vm-100-disk-1.qcow2")
    assert "unused0" not in api.config(100)
    api.data("PUT", CONFIG, delete="scsi2", force=1)
    assert not [option for option in api.config(100) if option.startswith("unused")]
    assert ("pve1", "local:100/vm-100-disk-1.qcow2") not in cluster.storages.volumes


def test_a_new_cd_drive_is_bootable_and_a_deleted_device_is_not(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    api.data("PUT", CONFIG, ide2="none,media=cdrom")
    assert api.config(100)["boot"] == "order=scsi0;net0;ide2"
    api.data("PUT", CONFIG, delete="net0")
    assert api.config(100)["boot"] == "order=scsi0;ide2"
    assert api.fail("PUT", CONFIG, boot="order=net0") == "invalid bootorder: device 'net0' does not exist'"


def test_cipassword_is_hashed_on_update_and_clear_on_create(api: Api, cluster: Cluster) -> None:
    api.run("POST", "/nodes/pve1/qemu", vmid=100, cipassword="secret")
    assert cluster.guests[100].config["cipassword"] == "secret"
    api.data("PUT", CONFIG, cipassword="secret")
    first = cluster.guests[100].config["cipassword"]
    api.data("PUT", CONFIG, cipassword="secret")
    assert first.startswith("$5$")
    assert first != cluster.guests[100].config["cipassword"]
    api.data("PUT", CONFIG, cipassword=first)
    assert cluster.guests[100].config["cipassword"] == first
    assert api.config(100)["cipassword"] == "**********"


def test_a_second_cloudinit_drive(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, config={"ide2": "local:cloudinit"})
    text = "scsi1 - cloud-init drive is already attached at 'ide2'"
    assert api.fail("PUT", CONFIG, scsi1="local:cloudinit") == text


@pytest.mark.parametrize(
    ("option", "value", "waits"),
    [
        ("cores", "2", True),
        ("memory", "2048", True),
        ("cpu", "host", True),
        ("name", "other", False),
        ("tags", "x", False),
        ("onboot", "1", False),
        ("cpulimit", "1", False),
        ("ciuser", "x", False),
        ("ipconfig0", "ip=dhcp", False),
        ("net0", "virtio,bridge=vmbr1", False),
        ("scsi0", "local:100/vm-100-disk-0.qcow2,backup=0", False),
        ("scsi0", "local:100/vm-100-disk-0.qcow2,discard=on", True),
        ("scsi1", "local:1", False),
        ("sata0", "local:1", True),
        ("ide0", "none,media=cdrom", True),
        ("agent", "0", True),
        ("agent", "1,fstrim_cloned_disks=1", False),
        ("balloon", "512", False),
        ("balloon", "0", True),
    ],
)
def test_what_waits_for_a_cold_start(api: Api, cluster: Cluster, option: str, value: str, waits: bool) -> None:
    cluster.add_vm(100, running=True, config={"agent": "1"})
    before = cluster.guests[100].config.get(option)
    api.data("PUT", CONFIG, **{option: value})
    (row,) = [row for row in api.data("GET", f"{VM}/pending") if row["key"] == option]
    assert ("pending" in row) is waits
    assert (cluster.guests[100].config.get(option) == before) is waits
    if waits:
        # A reset applies nothing, a cold start does.
        api.run("POST", f"{VM}/status/reset")
        assert option in cluster.guests[100].pending
        api.run("POST", f"{VM}/status/stop")
        assert not cluster.guests[100].pending
        assert cluster.guests[100].config.get(option) != before


def test_hotplug_can_be_off(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, running=True, config={"hotplug": "0"})
    api.data("PUT", CONFIG, net1="virtio,bridge=vmbr0", scsi1="local:1")
    assert set(cluster.guests[100].pending) == {"net1", "scsi1"}


def test_a_write_that_fails_leaves_the_earlier_options_written(api: Api, cluster: Cluster) -> None:
    cluster.add_storage("small", "dir", size=1024**3)
    cluster.add_vm(100)
    assert "No space left" in api.fail("PUT", CONFIG, cores=4, scsi1="small:100")
    # Written, and pending since applying comes last.
    assert cluster.guests[100].pending == {"cores": "4"}
    assert api.config(100)["cores"] == 4
    assert api.config(100, current=1)["cores"] == 1


def test_a_device_that_does_not_let_go_is_a_400_after_the_write(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, running=True)
    guest.behaviour.hotplug_errors["net0"] = "error unplugging device net0"
    response = api.call("PUT", CONFIG, net0="e1000,bridge=vmbr0", description="new")
    assert response.status == 400
    assert response.json()["errors"] == {"net0": "hotplug problem - error unplugging device net0\n"}
    assert api.config(100, current=1)["description"] == "new"
    assert "net0" in guest.pending


def test_digests(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    digest = api.config(100)["digest"]
    api.data("PUT", CONFIG, cores=2, digest=digest)
    assert api.fail("PUT", CONFIG, cores=3, digest=digest) == "checksum mismatch (file change by other user?)"
    modified = "detected modified configuration - file changed by other user? Try again."
    assert api.fail("POST", f"{VM}/move_disk", disk="scsi0", storage="shared", digest=digest) == modified


def test_pending_changes_can_be_taken_back(api: Api, cluster: Cluster) -> None:
    guest = cluster.add_vm(100, running=True, config={"cpu": "host"})
    api.data("PUT", CONFIG, cores=4, delete="cpu")
    assert (guest.pending, guest.pending_delete) == ({"cores": "4"}, {"cpu": 1})
    api.data("PUT", CONFIG, revert="cores,cpu")
    assert (guest.pending, guest.pending_delete) == ({}, {})


def test_a_held_lock_costs_ten_seconds(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100)
    held = cluster.hold_lock(100)
    response = api.call("PUT", CONFIG, cores=2)
    assert response.reason == "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    assert round(response.seconds) == 10
    cluster.scheduler.after(5.0, held.release)
    response = api.call("PUT", CONFIG, cores=2)
    assert (response.status, round(response.seconds)) == (200, 5)


def test_what_only_root_may_set(cluster: Cluster) -> None:
    cluster.add_vm(100)
    token = Api(cluster)
    assert token.fail("PUT", CONFIG, args="-x") == "only root can set 'args' config"
    made = token.cluster.access.create_ticket({"username": "root@pam", "password": "labpass"}, cluster.now)
    headers = {"Cookie": f"PVEAuthCookie={made['ticket']}", "CSRFPreventionToken": made["CSRFPreventionToken"]}
    Api(cluster, headers).data("PUT", CONFIG, args="-x")
    assert cluster.guests[100].config["args"] == "-x"


def test_protection_keeps_disks(api: Api, cluster: Cluster) -> None:
    cluster.add_vm(100, config={"protection": "1"})
    assert api.fail("PUT", CONFIG, delete="scsi0") == "can't remove drive 'scsi0' - protection mode enabled"
    assert api.fail("DELETE", VM) == "can't remove VM 100 - protection mode enabled"
