"""The tables of options against the schema of the two config endpoints: no option, key or default may be missing or differ."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.options import (
    LIMITS,
    LXC,
    OPTIONS,
    QEMU,
    READ,
    Scalar,
    find_option,
    is_disk,
    settle,
)
from ansible_collections.keel.proxmox.plugins.module_utils.wire import Properties, meaning, parse_properties

from tests.simulator import schema
from tests.simulator.formats import PROPERTIES

# Parameters of the request.
CONTROLS = {"node", "vmid", "delete", "digest", "revert", "force", "skiplock"}

# The default key of a boot order is the old form; the whole order is one value here, and so is memory.
WHOLE = {"boot", "memory"}

# Defaults that the schema words otherwise or leaves out, read in the sources: of a CPU (QemuServer/CPUConfig.pm), of cgroups
# version 2 (PVE/CGroup.pm), of 1 as any id, of no keyboard, and one below its own minimum.
OTHER_DEFAULTS = {"cpuunits", "vmgenid", "keyboard", "vcpus", "hotplug"}

# Keys that servers have which are newer than the schema's data.
NEWER = {"host-tunnel", "host-managed"}


@functools.cache
def parameters(kind: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        found = schema.load()
    except schema.SchemaMissing as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    endpoint = found.endpoint("PUT", f"/nodes/{{node}}/{kind}/{{vmid}}/config")
    return {name: prop for name, prop in endpoint.parameters.items() if name not in CONTROLS}


def form_of(prop: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]] | None:
    """The keys of a property string, None for other values."""
    form = prop.get("format")
    return PROPERTIES.get(form) if isinstance(form, str) else form


kinds = pytest.mark.parametrize("kind", ["qemu", "lxc"])


@kinds
def test_every_option_is_known(kind: str) -> None:
    unknown = {name for name in parameters(kind) if name != "cdrom" and find_option(kind, name) is None}
    assert not unknown


@kinds
def test_no_option_is_invented(kind: str) -> None:
    invented = {key for key in OPTIONS[kind] if key.replace("[n]", "0") not in parameters(kind)}
    assert not invented


@kinds
def test_index_limits(kind: str) -> None:
    for family, limit in LIMITS[kind].items():
        assert f"{family}{limit - 1}" in parameters(kind)
        assert f"{family}{limit}" not in parameters(kind)
        assert find_option(kind, f"{family}{limit}") is None
        assert find_option(kind, f"{family}00") is None


@kinds
def test_scalars_have_the_type_and_default_of_the_schema(kind: str) -> None:
    for name, prop in parameters(kind).items():
        option = find_option(kind, name)
        if not isinstance(option, Scalar) or name in OTHER_DEFAULTS:
            continue
        if prop["type"] in ("boolean", "integer", "number") or name == "memory":
            assert option.kind in (prop["type"], "memory"), name
        default = (
            form_of(prop)["current"].get("default") if name == "memory" and kind == "qemu" else prop.get("default")
        )  # type: ignore[index]
        if default is not None:
            assert option.default == READ[option.kind](default), name
        elif option.kind != "boolean":
            assert not option.default, name


@kinds
def test_properties_have_the_keys_of_the_schema(kind: str) -> None:
    for name, prop in parameters(kind).items():
        option, form = find_option(kind, name), form_of(prop)
        if name in WHOLE or name == "cdrom":
            continue
        assert isinstance(option, Properties) is (form is not None or name == "startup"), name
        if form is None or not isinstance(option, Properties):
            continue
        default_key = next((key for key, entry in form.items() if entry.get("default_key")), None)
        assert option.default_key == default_key, name
        plain = {key: entry for key, entry in form.items() if "alias" not in entry}
        booleans = {key for key, entry in plain.items() if entry.get("type") == "boolean"}
        assert option.booleans - NEWER == booleans - NEWER, name
        numbers = {key for key, entry in plain.items() if entry.get("type") in ("integer", "number")}
        assert option.numbers == numbers, name
        aliases = {key: entry["alias"] for key, entry in form.items() if "alias" in entry and "keyAlias" not in entry}
        assert aliases.items() <= option.aliases.items(), name
        assert option.models == {key for key, entry in form.items() if "keyAlias" in entry}, name
        known = set(plain) | NEWER
        assert option.keys - set(option.aliases) - NEWER == set(form) - set(option.aliases) - NEWER, name
        assert (option.sets | option.folded | set(option.defaults) | set(option.switches)) <= known, name
        for key, entry in plain.items():
            if "default" in entry and not (name.startswith("ipconfig") or key == "size"):
                said = parse_properties(option, f"{key}={entry['default']}")
                assert meaning(option, said) == {}, f"{name}: {key} has the default {entry['default']}"


def test_disks_are_the_slots_that_hold_volumes() -> None:
    assert {key for key in QEMU if is_disk("qemu", key.replace("[n]", "0"))} == {
        *("ide[n]", "sata[n]", "scsi[n]", "virtio[n]", "efidisk0", "tpmstate0")
    }
    assert {key for key in LXC if is_disk("lxc", key.replace("[n]", "0"))} == {"rootfs", "mp[n]"}
    assert not is_disk("qemu", "scsi31")
    assert not is_disk("lxc", "scsi0")


# option, present text, wanted -> before, after, what is sent.
SETTLED: list[tuple[str, str | None, Any, tuple[Any, Any, Any]]] = [
    ("cores", "2", 2, (2, 2, None)),
    ("cores", "2", 4, (2, 4, 4)),
    ("cores", None, 1, (1, 1, None)),
    ("cores", None, 2, (1, 2, 2)),
    ("memory", "1024", 1024, (1024, 1024, None)),
    ("memory", "current=1024", "1024", (1024, 1024, None)),
    ("memory", None, 512, (512, 512, None)),
    ("onboot", None, False, (False, False, None)),
    ("onboot", "1", False, (True, False, False)),
    ("onboot", "1", "yes", (True, True, None)),
    ("localtime", None, False, (None, False, False)),
    ("cpulimit", None, 0.0, (0, 0, None)),
    ("cpulimit", "2", 2.0, (2, 2, None)),
    ("cpulimit", "2", 1.5, (2, 1.5, "1.5")),
    ("cpuunits", None, 100, (100, 100, None)),
    ("cpuunits", "10000", 200000, (10000, 10000, None)),
    ("description", "hello\nworld", "hello\nworld\n\n", ("hello\nworld", "hello\nworld", None)),
    ("tags", "prod;web", ["web", "prod"], (["prod", "web"], ["prod", "web"], None)),
    ("tags", "prod;web", "web,new", (["prod", "web"], ["new", "web"], "new;web")),
    ("nameserver", "1.1.1.1 9.9.9.9", ["1.1.1.1", "9.9.9.9"], (["1.1.1.1", "9.9.9.9"], ["1.1.1.1", "9.9.9.9"], None)),
    ("nameserver", "1.1.1.1", ["9.9.9.9", "1.1.1.1"], (["1.1.1.1"], ["9.9.9.9", "1.1.1.1"], "9.9.9.9 1.1.1.1")),
    ("hotplug", None, ["usb", "disk", "network"], (["disk", "network", "usb"], ["disk", "network", "usb"], None)),
    ("hotplug", "1", "network,disk,usb", (["disk", "network", "usb"], ["disk", "network", "usb"], None)),
    ("hotplug", None, ["1"], (["disk", "network", "usb"],) * 2 + (None,)),
    ("hotplug", "0", ["0"], ([], [], None)),
    ("hotplug", "0", False, ([], [], None)),
    ("tags", "a;b", ["b;a"], (["a", "b"], ["a", "b"], None)),
    ("hotplug", None, "0", (["disk", "network", "usb"], [], "0")),
    ("boot", "order=scsi0;net0", ["scsi0", "net0"], (["scsi0", "net0"], ["scsi0", "net0"], None)),
    ("boot", "order=scsi0;net0", "order=net0;scsi0", (["scsi0", "net0"], ["net0", "scsi0"], "order=net0;scsi0")),
    ("boot", None, "cdn", (None, ["cdn"], "cdn")),
    ("affinity", "0-3,8", "8,0,1,2,3", ([0, 1, 2, 3, 8], [0, 1, 2, 3, 8], None)),
    ("affinity", None, "0,1,2,5", (None, [0, 1, 2, 5], "0-2,5")),
    ("vmgenid", "ca222e6f-af10-4b04-8115-43fd3cbb8c89", "1", ("1", "1", None)),
    ("vmgenid", "0", "1", ("0", "1", "1")),
    ("vmgenid", None, "1", (None, "1", "1")),
    (
        "sshkeys",
        "ssh-ed25519%20AAAA%20me%40x%0A",
        ["ssh-ed25519 AAAA me@x"],
        (["ssh-ed25519 AAAA me@x"], ["ssh-ed25519 AAAA me@x"], None),
    ),
    ("sshkeys", None, "ssh-rsa A+/ b\n\n", ([], ["ssh-rsa A+/ b"], "ssh-rsa%20A%2B%2F%20b")),
    ("agent", "1", True, ({"enabled": True}, {"enabled": True}, None)),
    ("agent", "enabled=1,fstrim_cloned_disks=1", "1", ({"enabled": True}, {"enabled": True}, None)),
    ("agent", None, False, ({"enabled": False}, {"enabled": False}, None)),
    ("agent", None, {"enabled": True}, ({"enabled": False}, {"enabled": True}, "1")),
    ("cpu", "host,flags=+aes;-pcid", "cputype=host", ({"cputype": "host"}, {"cputype": "host"}, None)),
    ("cpu", "host", {"flags": ["-pcid", "+aes"]}, ({}, {"flags": ["+aes", "-pcid"]}, "host,flags=-pcid;+aes")),
    ("vga", None, "std", ({"type": "std"}, {"type": "std"}, None)),
    ("watchdog", None, "i6300esb", (None, {"model": "i6300esb"}, "i6300esb")),
    ("watchdog", "model=i6300esb", "i6300esb", ({"model": "i6300esb"}, {"model": "i6300esb"}, None)),
    ("startup", "order=1,up=30", "1", ({"order": 1}, {"order": 1}, None)),
    ("net1", None, {"bridge": "vmbr0"}, (None, {"bridge": "vmbr0"}, "virtio,bridge=vmbr0")),
    (
        "net0",
        "virtio=AA:BB,bridge=vmbr0",
        "virtio,bridge=vmbr0",
        ({"bridge": "vmbr0", "model": "virtio"},) * 2 + (None,),
    ),
    ("net0", "virtio=AA:BB,bridge=vmbr0,tag=5", {"tag": ""}, ({"tag": 5}, {}, "virtio=AA:BB,bridge=vmbr0")),
    (
        "ipconfig0",
        "ip=10.0.0.5/24,gw=10.0.0.1",
        {"ip": "dhcp"},
        ({"gw": "10.0.0.1", "ip": "10.0.0.5/24"}, {"ip": "dhcp"}, "ip=dhcp"),
    ),
    (
        "hostpci0",
        "host=00:02.0,pcie=1",
        {"mapping": "gpu"},
        ({"host": "00:02.0"}, {"mapping": "gpu"}, "mapping=gpu,pcie=1"),
    ),
    ("spice_enhancements", None, {"videostreaming": False}, ({"videostreaming": "off"},) * 2 + (None,)),
]


@pytest.mark.parametrize(("key", "present", "wanted", "expected"), SETTLED)
def test_settle(key: str, present: str | None, wanted: Any, expected: tuple[Any, Any, Any]) -> None:
    option = find_option("qemu", key)
    assert option is not None
    change = settle(option, key, present, wanted)
    assert (change.before, change.after, change.value) == expected
    assert not change.removes


CONTAINER: list[tuple[str, str | None, Any, tuple[Any, Any, Any]]] = [
    ("net0", None, {"bridge": "vmbr0"}, (None, {"bridge": "vmbr0"}, "bridge=vmbr0,name=eth0")),
    (
        "net3",
        "name=eth3,bridge=vmbr0,hwaddr=AA:BB,type=veth",
        {"mac": "aa:bb", "type": "veth"},
        ({"hwaddr": "aa:bb", "type": "veth"}, {"hwaddr": "aa:bb", "type": "veth"}, None),
    ),
    ("features", "nesting=1", {"keyctl": False}, ({"keyctl": False}, {"keyctl": False}, None)),
    ("features", "nesting=1", {"mount": ["nfs", "cifs"]}, ({}, {"mount": ["cifs", "nfs"]}, "mount=nfs;cifs,nesting=1")),
    ("env", "A=1\0B=two words", ["A=1", "B=two words"], (["A=1", "B=two words"],) * 2 + (None,)),
    ("env", None, ["A=1", "B=2"], ([], ["A=1", "B=2"], "A=1\0B=2")),
    ("swap", None, 512, (512, 512, None)),
    ("cores", None, 1, (None, 1, 1)),
    ("tty", None, 2, (2, 2, None)),
]


@pytest.mark.parametrize(("key", "present", "wanted", "expected"), CONTAINER)
def test_settle_of_containers(key: str, present: str | None, wanted: Any, expected: tuple[Any, Any, Any]) -> None:
    option = find_option("lxc", key)
    assert option is not None
    change = settle(option, key, present, wanted)
    assert (change.before, change.after, change.value) == expected


@pytest.mark.parametrize(
    ("key", "present", "wanted", "before", "after", "removes"),
    [
        ("description", "x", "", "x", "", True),
        ("description", None, "", "", "", False),
        ("tags", "a", [], ["a"], [], True),
        ("net0", "virtio,tag=2", "", {"model": "virtio", "tag": 2}, None, True),
        ("agent", "1", {"enabled": ""}, {"enabled": True}, {"enabled": False}, True),
        ("onboot", "1", "", True, False, True),
    ],
)
def test_what_is_emptied_is_removed(
    key: str, present: str | None, wanted: Any, before: Any, after: Any, removes: bool
) -> None:
    option = find_option("qemu", key)
    assert option is not None
    change = settle(option, key, present, wanted)
    assert (change.before, change.after, change.value, change.removes) == (before, after, None, removes)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("cores", "many"),
        ("cores", 1.5),
        ("cores", True),
        ("onboot", "perhaps"),
        ("affinity", "a-b"),
        ("ostype", {"a": 1}),
        ("ciuser", "two\nlines"),
        ("net0", "tag=x"),
    ],
)
def test_impossible_values(key: str, wanted: Any) -> None:
    option = find_option("qemu", key)
    assert option is not None
    with pytest.raises(ValueError, match=r"number|neither|CPU|text|lines"):
        settle(option, key, None, wanted)
