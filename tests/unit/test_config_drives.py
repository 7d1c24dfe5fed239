"""Disks, CD drives and mount points: what is wanted in a slot, what is there, what is sent."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.drives import (
    Disk,
    is_cloudinit,
    parse_disk,
    settle_disk,
    slot,
)
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused

G = 1024**3

PARSED: list[tuple[str, Any, Disk]] = [
    ("scsi0", {"storage": "lvm", "size": 32}, Disk(storage="lvm", size=32 * G)),
    ("scsi0", "lvm:32", Disk(storage="lvm", size=32 * G)),
    ("scsi0", "lvm:0.5,ssd=1", Disk(storage="lvm", size=G // 2, options={"ssd": "1"})),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", Disk(volume="lvm:vm-100-disk-0", size=8 * G)),
    ("scsi0", "lvm:vm-100-disk-0", Disk(volume="lvm:vm-100-disk-0")),
    ("scsi0", {"volume": "unused0", "discard": True}, Disk(volume="unused0", options={"discard": "on"})),
    ("scsi0", "lvm:0,import-from=/img.qcow2,format=raw", Disk(storage="lvm", format="raw", import_from="/img.qcow2")),
    (
        "scsi0",
        {"storage": "lvm", "import_from": "a:b", "size": "3G"},
        Disk(storage="lvm", size=3 * G, import_from="a:b"),
    ),
    ("ide2", {"iso": "local:iso/a.iso"}, Disk(cdrom="local:iso/a.iso")),
    ("ide2", {"cdrom": False}, Disk(cdrom="none")),
    ("ide2", {"cdrom": True}, Disk(cdrom="cdrom")),
    ("ide2", "local:iso/a.iso,media=cdrom,size=4M", Disk(cdrom="local:iso/a.iso")),
    ("ide2", "none", Disk(cdrom="none")),
    ("ide2", {"cloudinit": "lvm"}, Disk(cloudinit="lvm")),
    ("ide2", "lvm:cloudinit,media=cdrom", Disk(cloudinit="lvm")),
    ("efidisk0", {"storage": "lvm", "efitype": "4m"}, Disk(storage="lvm", options={"efitype": "4m"})),
    ("efidisk0", "lvm:1,efitype=4m", Disk(storage="lvm", options={"efitype": "4m"})),
    ("scsi0", {"bps_rd": 1048576 * 3}, Disk(options={"mbps_rd": "3"})),
    ("scsi0", {"bps_rd_length": 5}, Disk(options={"bps_rd_max_length": "5"})),
    ("scsi0", {"cache": ""}, Disk(options={"cache": ""})),
    ("scsi0", {"cache": None}, Disk()),
]


@pytest.mark.parametrize(("key", "value", "disk"), PARSED, ids=str)
def test_parse(key: str, value: Any, disk: Disk) -> None:
    assert parse_disk("qemu", key, value) == disk


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("qemu", {"cdrom": "none", "iso": "a:b"}, "two names"),
        ("qemu", {"cdrom": "none", "cloudinit": "a"}, "exclude each other"),
        ("qemu", {"volume": "a:b", "import_from": "c:d"}, "exclude each other"),
        ("qemu", {"cdrom": "none", "size": 4}, "storage and size are for disks"),
        ("qemu", {"ssd": "perhaps"}, "neither true nor false"),
        ("lxc", {"cloudinit": "lvm"}, "containers have no cloudinit"),
        ("lxc", {"storage": "lvm", "import_from": "a:b"}, "containers have no import_from"),
    ],
)
def test_contradictions(kind: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_disk(kind, "scsi0" if kind == "qemu" else "mp0", value)


def test_cloudinit_drives_are_known_by_their_names() -> None:
    names = ("lvm:vm-100-cloudinit", "local:100/vm-100-cloudinit.qcow2", "lvm:cloudinit")
    assert all(is_cloudinit(name) for name in names)
    assert not any(is_cloudinit(name) for name in ("lvm:vm-100-disk-0", "local:iso/cloudinit-2.iso", "none"))


# slot, what is there, what is wanted -> what is sent, bytes to grow to.
SETTLED: list[tuple[str, str | None, Any, str | None, int | None]] = [
    ("scsi0", None, {"storage": "lvm", "size": 8}, "lvm:8", None),
    ("scsi0", None, {"storage": "lvm", "size": "512M", "format": "qcow2"}, "lvm:0.5,format=qcow2", None),
    ("scsi0", None, {"volume": "lvm:vm-100-disk-9", "ssd": True}, "lvm:vm-100-disk-9,ssd=1", None),
    ("scsi0", None, {"volume": "unused0"}, "lvm:vm-100-disk-5", None),
    ("scsi0", None, {"storage": "lvm", "import_from": "a:b"}, "lvm:0,import-from=a:b", None),
    ("scsi0", None, {"storage": "lvm", "import_from": "a:b", "size": 9}, "lvm:0,import-from=a:b", 9 * G),
    ("ide2", None, {"cdrom": "none"}, "none,media=cdrom", None),
    ("ide2", None, {"cloudinit": "lvm"}, "lvm:cloudinit", None),
    ("efidisk0", None, {"storage": "lvm", "efitype": "4m"}, "lvm:1,efitype=4m", None),
    ("efidisk0", "lvm:vm-100-disk-1,efitype=4m,size=4M", {"storage": "lvm", "size": 1}, None, None),
    ("tpmstate0", None, {"storage": "lvm", "version": "v2.0"}, "lvm:1,version=v2.0", None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"storage": "lvm", "size": 8}, None, None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"size": 9}, None, 9 * G),
    ("scsi0", "lvm:vm-100-disk-0,size=36M", {"size": "33M"}, None, None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"volume": "unused0"}, "refused", None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"volume": "unused7"}, None, None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"import_from": "a:b", "storage": "lvm"}, None, None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"discard": "ignore", "backup": True}, None, None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G,ssd=1", {"cache": "none"}, "lvm:vm-100-disk-0,cache=none,size=8G,ssd=1", None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G,ssd=1", {"ssd": ""}, "lvm:vm-100-disk-0,size=8G", None),
    ("scsi0", "lvm:vm-100-disk-0,mbps=5,size=8G", {"mbps_rd": 2}, "lvm:vm-100-disk-0,mbps_rd=2,size=8G", None),
    ("scsi0", "lvm:vm-100-disk-0,size=4G", {"size": 8, "ssd": True}, "lvm:vm-100-disk-0,size=8G,ssd=1", 8 * G),
    ("ide2", "none,media=cdrom", {"iso": "local:iso/a.iso"}, "local:iso/a.iso,media=cdrom", None),
    ("ide2", "local:iso/a.iso,media=cdrom,size=1G", {"iso": "local:iso/a.iso"}, None, None),
    ("ide2", "local:iso/a.iso,media=cdrom,size=1G", {"cdrom": "none"}, "none,media=cdrom", None),
    ("ide2", "none,media=cdrom", {"cloudinit": "lvm"}, "lvm:cloudinit,media=cdrom", None),
    ("ide2", "lvm:vm-100-cloudinit,media=cdrom,size=4M", {"cloudinit": "lvm"}, None, None),
    ("ide2", "lvm:vm-100-cloudinit,media=cdrom", {"cloudinit": "ceph"}, "refused", None),
    ("ide2", "lvm:vm-100-cloudinit,media=cdrom", {"cdrom": "none"}, "none,media=cdrom", None),
    ("ide2", "none,media=cdrom", {"storage": "lvm", "size": 4}, "refused", None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"cloudinit": "lvm"}, "refused", None),
    ("scsi0", "lvm:vm-100-disk-0,size=8G", {"size": 4}, "refused", None),
    ("scsi0", "/dev/sdb", {"size": 4}, "refused", None),
    ("scsi0", None, {"size": 4}, "refused", None),
    ("scsi0", None, {"volume": "unused7"}, "refused", None),
]


@pytest.mark.parametrize(("key", "present", "wanted", "sent", "grow"), SETTLED, ids=str)
def test_settle(key: str, present: str | None, wanted: Any, sent: str | None, grow: int | None) -> None:
    unused = {"unused0": "lvm:vm-100-disk-5"}
    here = slot("qemu", key, present, present)
    if sent == "refused":
        with pytest.raises(Refused):
            settle_disk("VM 100", "qemu", here, wanted, unused)
        return
    change, size = settle_disk("VM 100", "qemu", here, wanted, unused)
    assert (change.value, size) == (sent, grow)
    assert not change.removes
    assert (change.before == change.after) is (sent is None and grow is None)


def test_the_whole_drive_is_removed_by_nothing() -> None:
    here = slot("qemu", "scsi0", "lvm:vm-100-disk-0,size=8G")
    change, _grow = settle_disk("VM 100", "qemu", here, "", {})
    assert change.removes
    assert (change.before, change.after) == ({"file": "lvm:vm-100-disk-0", "size": "8G"}, None)


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        ({"storage": "lvm", "size": 8, "ssd": True}, "lvm:vm-100-disk-3,size=8G,ssd=1"),
        ({"storage": "lvm", "size": "33M"}, "lvm:vm-100-disk-3,size=36M"),
        ({"storage": "lvm", "import_from": "a:b"}, "lvm:vm-100-disk-3,size=2252M"),
        ({"storage": "lvm", "import_from": "a:b", "size": 8}, "lvm:vm-100-disk-3,size=8G"),
        ({"volume": "lvm:vm-100-disk-3", "cache": "none"}, "lvm:vm-100-disk-3,cache=none,size=8G"),
        ({"cdrom": "local:iso/a.iso"}, "local:iso/a.iso,media=cdrom,size=1G"),
        ({"cloudinit": "lvm"}, "lvm:vm-100-cloudinit,media=cdrom,size=4M"),
    ],
)
def test_what_the_server_makes_of_it_is_what_was_foretold(wanted: Any, stored: str) -> None:
    foretold, _grow = settle_disk("VM 100", "qemu", slot("qemu", "scsi1", None), wanted, {})
    again, grow = settle_disk("VM 100", "qemu", slot("qemu", "scsi1", stored, stored), wanted, {})
    assert not again.changes
    assert grow is None
    assert again.before == again.after == foretold.after


def test_mount_points() -> None:
    new, _grow = settle_disk(
        "CT 101", "lxc", slot("lxc", "mp0", None), {"storage": "lvm", "size": 2, "mp": "/data"}, {}
    )
    assert new.value == "lvm:2,mp=/data"
    stored = "lvm:vm-101-disk-1,mp=/data,size=2G"
    here = slot("lxc", "mp0", stored, stored)
    assert not settle_disk("CT 101", "lxc", here, {"storage": "lvm", "size": 2, "mp": "/data"}, {})[0].changes
    change, grow = settle_disk("CT 101", "lxc", here, {"size": 4, "mountoptions": ["noatime", "discard"]}, {})
    assert (change.value, grow) == ("lvm:vm-101-disk-1,mountoptions=noatime;discard,mp=/data,size=4G", 4 * G)
    same = slot("lxc", "mp0", "lvm:vm-101-disk-1,mountoptions=discard;noatime,mp=/data,size=4G")
    assert not settle_disk("CT 101", "lxc", same, {"size": 4, "mountoptions": ["noatime", "discard"]}, {})[0].changes
