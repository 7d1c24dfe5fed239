"""What a running guest takes at once, line by line as the server decides it."""

from __future__ import annotations

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.hotplug import is_live

NET = "virtio=AA:BB,bridge=vmbr0"
DISK = "lvm:vm-100-disk-0,size=8G"

# option, in force, to come, live; with the default hotplug of a Linux guest.
VM: list[tuple[str, str | None, str | None, bool]] = [
    ("cores", "2", "4", False),
    ("cores", "2", "2", True),
    ("memory", "512", "1024", False),
    ("description", "a", None, True),
    ("tags", None, "a", True),
    ("name", "a", "b", True),
    ("ciuser", "a", "b", True),
    ("ipconfig31", None, "ip=dhcp", True),
    ("sshkeys", "a", None, True),
    ("cpulimit", None, "2", True),
    ("cpuunits", "100", "200", True),
    ("cpu", None, "host", False),
    ("boot", "order=a", "order=b", False),
    ("agent", "1", "1,fstrim_cloned_disks=1", True),
    ("agent", "1", "0", False),
    ("agent", None, "1", False),
    ("agent", "1", None, False),
    ("tablet", None, "0", True),
    ("vcpus", None, "1", False),
    ("balloon", "512", "256", True),
    ("balloon", None, "256", True),
    ("balloon", "0", "256", False),
    ("balloon", "256", "0", False),
    ("hotplug", None, "disk", True),
    ("hotplug", None, "disk,memory", False),
    ("hotplug", "cpu", None, False),
    ("usb0", None, "spice", True),
    ("net0", NET, f"{NET},tag=20", True),
    ("net0", NET, "virtio=AA:BB,bridge=vmbr1,rate=2,firewall=1,link_down=1,trunks=2", True),
    ("net0", NET, "e1000=AA:BB,bridge=vmbr0", True),
    ("net1", None, NET, True),
    ("net0", NET, None, True),
    ("scsi1", None, DISK, True),
    ("virtio1", None, DISK, True),
    ("sata1", None, DISK, False),
    ("ide1", None, "none,media=cdrom", False),
    ("scsi1", DISK, None, True),
    ("sata1", DISK, None, False),
    ("efidisk0", None, DISK, False),
    ("tpmstate0", DISK, f"{DISK},version=v2.0", False),
    ("scsi0", DISK, f"{DISK},mbps=5", True),
    ("sata0", DISK, f"{DISK},backup=0", True),
    ("scsi0", DISK, f"{DISK},serial=x", True),
    ("scsi0", DISK, f"{DISK},discard=on", False),
    ("scsi0", DISK, f"{DISK},iothread=1", False),
    ("scsi0", DISK, f"{DISK},cache=none", False),
    ("scsi0", DISK, f"{DISK},ssd=1", False),
    ("scsi0", DISK, "lvm:vm-100-disk-1", True),
    ("sata0", DISK, "lvm:vm-100-disk-1", False),
    ("ide2", "none,media=cdrom", "local:iso/a.iso,media=cdrom", True),
    ("unused0", "lvm:vm-100-disk-1", None, True),
    ("unused0", None, "lvm:vm-100-disk-1", False),
    ("serial0", None, "socket", False),
    ("hostpci0", None, "00:02.0", False),
]


@pytest.mark.parametrize(("key", "present", "new", "live"), VM)
def test_vm(key: str, present: str | None, new: str | None, live: bool) -> None:
    assert is_live("qemu", key, present, new, {"ostype": "l26"}) is live


@pytest.mark.parametrize(
    ("hotplug", "key", "present", "new", "live"),
    [
        ("0", "net0", NET, f"{NET},tag=20", True),
        ("0", "net0", NET, "e1000=AA:BB,bridge=vmbr0", False),
        ("0", "net0", "virtio=AA:BB", "virtio=AA:BB,tag=2", False),
        ("0", "net1", None, NET, False),
        ("0", "scsi1", None, DISK, False),
        ("0", "scsi0", DISK, f"{DISK},mbps=5", True),
        ("0", "tablet", None, "0", False),
        ("memory", "memory", "512", "1024", True),
        ("cpu", "vcpus", None, "1", True),
        ("1", "scsi1", None, DISK, True),
        ("network", "usb0", None, "spice", False),
    ],
)
def test_vm_with_other_hotplug(hotplug: str, key: str, present: str | None, new: str | None, live: bool) -> None:
    assert is_live("qemu", key, present, new, {"ostype": "l26", "hotplug": hotplug}) is live


def test_usb_needs_a_system_that_knows_it() -> None:
    assert [is_live("qemu", "usb0", None, "spice", {"ostype": name}) for name in ("l26", "win11", "win7", "other")] == [
        True,
        True,
        False,
        False,
    ]


CT: list[tuple[str, str | None, str | None, bool]] = [
    ("cores", "1", "2", True),
    ("memory", "512", "1024", True),
    ("swap", "512", None, True),
    ("hostname", "a", "b", True),
    ("features", None, "nesting=1", False),
    ("onboot", None, "1", True),
    ("tty", "2", "3", False),
    ("nameserver", None, "1.1.1.1", False),
    ("net0", "name=eth0", "name=eth0,tag=2", True),
    ("net11", None, "name=eth11", True),
    ("net1", "name=eth1", None, True),
    ("net11", "name=eth11", None, False),
    ("mp0", None, "lvm:4,mp=/a", True),
    ("mp0", "lvm:x,mp=/a", "lvm:x,mp=/b", False),
    ("mp0", "lvm:x,mp=/a", None, False),
    ("rootfs", "lvm:x,size=4G", "lvm:x,size=4G,quota=1", False),
    ("dev0", None, "/dev/fuse", True),
    ("unused0", "lvm:x", None, True),
]


@pytest.mark.parametrize(("key", "present", "new", "live"), CT)
def test_container(key: str, present: str | None, new: str | None, live: bool) -> None:
    assert is_live("lxc", key, present, new, {}) is live
