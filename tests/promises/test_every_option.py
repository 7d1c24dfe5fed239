"""Every option of the schema of both config endpoints: set it, run again, and nothing is written.

The options are the schema's; the values are made from their types and formats, or stand in the table where only a person knows
a valid one. Each is spelled in several ways that mean the same: what another client has stored in one way and the task names
in another is no change.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.simulator import Cluster, schema
from tests.simulator.adapter import ClusterAdapter
from tests.simulator.engine.model import Volume
from tests.simulator.formats import PROPERTIES

from .world import World, make_world

CONTROLS = {"node", "vmid", "delete", "digest", "revert", "force", "skiplock"}

UUID = "7D2068AC-f6dd-42ba-b7c2-cbeff9347a31"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2tGr9vXTCTC5iuNzh4Tn6fkjRZN9m0uJrZg1d3P3fE"

# Values that their type and format do not tell; the first is set, all mean the same.
VALUES: Mapping[str, tuple[Any, ...]] = {
    "qemu affinity": ("3,0-1", "0,1,3", [0, 1, 3]),
    "qemu args": ("-no-reboot",),
    "qemu boot": ("order=net1;sata1", ["net1", "sata1"]),
    "qemu bootdisk": ("sata1",),
    "qemu cdrom": ("none,media=cdrom", {"cdrom": "none"}, "none"),
    "qemu cpu": ("flags=+aes;-pcid,cputype=host", "host,flags=-pcid;+aes", {"cputype": "host"}),
    "qemu cpuunits": (20000, 10000),
    "qemu description": ("two\nlines\n\n", "two\nlines"),
    "qemu efidisk": (
        "local-lvm:1,efitype=4m,pre-enrolled-keys=yes",
        {"storage": "local-lvm", "pre-enrolled-keys": True},
    ),
    "qemu hookscript": ("local:snippets/hook.pl",),
    "qemu hostpci": ("rombar=no,host=00:02.0,pcie=on", "00:02.0,pcie=1,rombar=0", {"host": "00:02.0", "pcie": True}),
    "qemu hotplug": ("usb,network", ["network", "usb"]),
    "qemu ipconfig": ("gw=10.0.0.1,ip=10.0.0.5/24", {"ip": "10.0.0.5/24", "gw": "10.0.0.1"}),
    "qemu machine": ("viommu=intel,enable-s3=yes,type=q35", "q35,enable-s3=1,viommu=intel", {"type": "q35"}),
    "qemu memory": ("current=2048", 2048, "2048"),
    "qemu nameserver": ("9.9.9.9,1.1.1.1", ["9.9.9.9", "1.1.1.1"]),
    "qemu net": ("bridge=vmbr0,model=e1000,firewall=yes", {"model": "e1000", "bridge": "vmbr0", "firewall": True}),
    "qemu numa": ("hostnodes=0,memory=512,cpus=1;0", {"cpus": [0, 1], "memory": 512}),
    "qemu parallel": ("/dev/parport0",),
    "qemu searchdomain": ("b.example a.example", ["b.example", "a.example"]),
    "qemu serial": ("socket",),
    "qemu smbios1": (f"serial=QUJD,uuid={UUID},base64=on", {"uuid": UUID.lower(), "base64": 1}),
    "qemu sshkeys": (f"{KEY} b@x\n{KEY} a@x\n", [f"{KEY} a@x", f"{KEY} b@x"]),
    "qemu startdate": ("2026-01-02T03:04:05",),
    "qemu startup": ("down=10,order=2", "2,down=10", {"order": 2}),
    "qemu tags": ("B;a,b", ["a", "b"], "b a"),
    "qemu tpmstate": ("local-lvm:1,version=v2.0", {"storage": "local-lvm", "version": "v2.0"}),
    "qemu unused": ("local-lvm:vm-101-disk-7",),
    "qemu usb": ("usb3=yes,host=SPICE", "spice,usb3=1"),
    "qemu vmgenid": (UUID, UUID.lower(), "1"),
    "qemu vmstatestorage": ("local",),
    "lxc description": ("two\nlines\n\n", "two\nlines"),
    "lxc cpuunits": (20000, 10000),
    "lxc dev": ("mode=0660,path=/dev/null,deny-write=yes", "/dev/null,mode=0660,deny-write=1"),
    "lxc entrypoint": ("/sbin/other",),
    "lxc env": ("A=1\0B=two words", ["A=1", "B=two words"]),
    "lxc features": ("mount=nfs;cifs,nesting=yes", {"mount": ["cifs", "nfs"], "nesting": True}, {"nesting": 1}),
    "lxc hookscript": ("local:snippets/hook.pl",),
    "lxc mp": ("local-lvm:1,mp=/data,backup=yes", {"storage": "local-lvm", "size": 1, "mp": "/data", "backup": True}),
    "lxc nameserver": ("9.9.9.9,1.1.1.1", ["9.9.9.9", "1.1.1.1"]),
    "lxc net": ("name=eth9,ip=dhcp,bridge=vmbr0,firewall=on", {"name": "eth9", "ip": "dhcp", "firewall": True}),
    "lxc rootfs": ({"ro": True, "mountoptions": ["noatime", "discard"]}, {"ro": 1, "mountoptions": "discard;noatime"}),
    "lxc searchdomain": ("b.example,a.example", ["b.example", "a.example"]),
    "lxc startup": ("down=10,order=2", "2,down=10", {"order": 2}),
    "lxc tags": ("B;a,b", ["a", "b"], "b a"),
    "lxc timezone": ("Europe/Vienna",),
    "lxc unused": ("local-lvm:vm-200-disk-7",),
    **{
        f"qemu {bus}": ("local-lvm:1,backup=no,aio=threads", {"storage": "local-lvm", "size": "1G", "backup": False})
        for bus in ("ide", "sata", "scsi", "virtio")
    },
}

# Texts for keys and options that are plain text of a format.
TEXTS = {
    "pve-configid": "some-id",
    "pve-volume-id": "local:snippets/user.yaml",
    "pve-storage-id": "local",
    "dns-name": "other.example",
    "pve-phys-bits": "40",
    "pve-lxc-mp-string": "/data",
}

# A container is privileged or not from its creation on; the server lets nobody change it.
READ_ONLY = {"lxc unprivileged"}

# Guests, those of kind lxc have the next id.
STOPPED, RUNNING = 300, 310


@functools.cache
def parameters(kind: str) -> Mapping[str, Mapping[str, Any]]:
    found = schema.load()
    endpoint = found.endpoint("PUT", f"/nodes/{{node}}/{kind}/{{vmid}}/config")
    return {name: prop for name, prop in endpoint.parameters.items() if name not in CONTROLS}


def family(name: str, prop: Mapping[str, Any]) -> str:
    """The name without its index; numa and numa0 are different options."""
    stem = re.sub(r"\d+$", "", name)
    return stem if stem != name and (name, prop) != ("smbios1", prop) else name


def options() -> list[tuple[str, str]]:
    """Kind and name of every option; of indexed ones, the first and the last."""
    found: list[tuple[str, str]] = []
    try:
        for kind in ("qemu", "lxc"):
            indexed: dict[str, list[str]] = {}
            for name, prop in parameters(kind).items():
                indexed.setdefault(family(name, prop) if re.search(r"\d$", name) else f"={name}", []).append(name)
            for names in indexed.values():
                ordered = sorted(names, key=lambda name: int(re.search(r"\d*$", name)[0] or 0))  # type: ignore[index]
                found += [(kind, name) for name in dict.fromkeys((ordered[0], ordered[-1]))]
    except schema.SchemaMissing:
        if os.environ.get("CI"):
            raise
    return found


def made(prop: Mapping[str, Any], name: str) -> Iterator[Any]:
    """Make spellings of a value that is not the default."""
    default = prop.get("default")
    if "enum" in prop:
        yield [entry for entry in prop["enum"] if entry != default][-1]
    elif prop["type"] == "boolean":
        yield from ("no", False, 0) if str(default) == "1" else ("yes", True, 1)
    elif prop["type"] in ("integer", "number"):
        value = max(int(prop.get("minimum", 0)), 3)
        yield from (value, str(value), f"{value}.0")
    elif isinstance(prop.get("format"), Mapping) or prop.get("format") in PROPERTIES:
        yield from spelled(prop["format"] if isinstance(prop["format"], Mapping) else PROPERTIES[prop["format"]], name)
    else:
        yield TEXTS.get(str(prop.get("format")), "text")


def spelled(form: Mapping[str, Mapping[str, Any]], name: str) -> Iterator[Any]:
    """Make spellings of a property string: keys in both orders, booleans as words and digits, with and without the default key."""
    keys = {key: entry for key, entry in form.items() if "alias" not in entry}
    exclusive = {"mapping"} if "mapping" in keys and "host" in keys else set()
    values = {
        key: list(made(entry, name)) for key, entry in keys.items() if key not in exclusive and _sayable(key, entry)
    }
    first = [f"{key}={spellings[0]}" for key, spellings in values.items()]
    yield ",".join(reversed(first))
    default_key = next((key for key, entry in keys.items() if entry.get("default_key") and key in values), None)
    plain = [
        f"{key}={int(value) if isinstance(value := spellings[-1], bool) else value}"
        for key, spellings in values.items()
    ]
    yield ",".join(
        part.removeprefix(f"{default_key}=")
        for part in sorted(plain, key=lambda part: part.split("=")[0] != default_key)
    )
    yield {key: spellings[0] for key, spellings in values.items()}


def _sayable(key: str, entry: Mapping[str, Any]) -> bool:
    """Keys whose values the type tells; those with a pattern are for the table above."""
    return "pattern" not in entry


def spellings(kind: str, name: str) -> list[Any]:
    prop = parameters(kind)[name]
    table = VALUES.get(f"{kind} {name}") or VALUES.get(f"{kind} {family(name, prop)}")
    return list(table) if table is not None and name != "numa" else list(made(prop, name))


OPTIONS = [option for option in options() if " ".join(option) not in READ_ONLY]
every_option = pytest.mark.parametrize(("kind", "name"), OPTIONS, ids=lambda value: value)

# Neither a locked guest nor a template can be rebooted.
BEFORE_A_REBOOT = [option for option in OPTIONS if option[1] not in ("lock", "template")]

# A password cannot be compared, and the first value of a container's rootfs is no text.
WRITTEN_BY_OTHERS = [option for option in OPTIONS if option[1] not in ("cipassword", "rootfs")]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch, populate)


def populate(cluster: Cluster) -> None:
    """Guests that are stopped and guests that run; those of the first ids have neither disk nor card at the first index."""
    net = "virtio=BC:24:11:00:00:0A,bridge=vmbr0"
    disk = "local-lvm:1"
    for vmid, running in ((STOPPED, False), (RUNNING, True)):
        config = {"sata1": disk, "net1": net, "ostype": "l26", "boot": "order=sata1;net1", "hotplug": "1"}
        cluster.add_vm(vmid, f"vm{vmid}", disk=None, config=config, running=running)
        cluster.add_ct(vmid + 1, f"ct{vmid}", running=running)
    script = Volume("local:snippets/hook.pl", 100, "raw", "snippets", None, 0)
    cluster.storages.volumes["pve1", script.volid] = script


def write(world: World, kind: str, name: str, value: Any) -> None:
    """Write an option as another client does, in the words that it likes."""
    vmid = STOPPED if kind == "qemu" else STOPPED + 1
    api = "https://pve1:8006/api2/json"
    with requests.Session() as session:
        session.mount("https://", ClusterAdapter(world.cluster))
        login = session.post(f"{api}/access/ticket", data={"username": "root@pam", "password": "labpass"})
        ticket = login.json()["data"]
        headers = {"CSRFPreventionToken": ticket["CSRFPreventionToken"], "Cookie": f"PVEAuthCookie={ticket['ticket']}"}
        if name == "sshkeys":
            value = quote(value, safe="")
        elif value in ("yes", "no"):
            value = {"yes": 1, "no": 0}[value]
        answer = session.put(f"{api}/nodes/pve1/{kind}/{vmid}/config", data={name: value}, headers=headers)
    assert answer.status_code == 200, answer.text


def run(
    world: World, vmid: int, kind: str, name: str, value: Any, *, reboot: bool = False, **more: Any
) -> dict[str, Any]:
    guest = {"vmid": vmid if kind == "qemu" else vmid + 1, "node": "pve1", "type": kind}
    root = {"api_token_id": None, "api_token_secret": None, "api_user": "root@pam", "api_password": "labpass"}
    # A password would be seen in `options`.
    wish: dict[str, Any] = {name: value} if name == "cipassword" else {"options": {name: value}}
    wish["reboot"] = "if_required" if reboot else "never"
    result = world.run("proxmox_vm_config", {**root, **guest, **wish}, **more)
    assert not result["failed"], (result["msg"], result.get("log"))
    return result


def writes(world: World) -> list[str]:
    return [entry.path for entry in world.cluster.log.writes() if entry.template != "/access/ticket"]


def test_there_are_options() -> None:
    try:
        schema.load()
    except schema.SchemaMissing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    assert len(OPTIONS) > 100


@every_option
@pytest.mark.parametrize("vmid", [STOPPED, RUNNING], ids=["stopped", "running"])
def test_set_it_and_run_again(world: World, vmid: int, kind: str, name: str) -> None:
    values = spellings(kind, name)
    foretold = run(world, vmid, kind, name, values[0], check_mode=True)
    assert foretold["changed"]
    assert not writes(world)
    done = run(world, vmid, kind, name, values[0])
    assert done["changed"]
    assert done["diff"] == foretold["diff"]
    assert len(done["calls"]) == 1
    world.cluster.log.clear()
    for value in values:
        again = run(world, vmid, kind, name, value)
        assert not again["changed"], (value, again["calls"], again["diff"])
    assert not writes(world)


@pytest.mark.parametrize(("kind", "name"), BEFORE_A_REBOOT, ids=lambda value: value)
def test_whether_a_reboot_is_needed_is_foretold(world: World, kind: str, name: str) -> None:
    value = spellings(kind, name)[0]
    foretold = run(world, RUNNING, kind, name, value, reboot=True, check_mode=True)
    done = run(world, RUNNING, kind, name, value, reboot=True)
    assert [call["summary"] for call in done["calls"]] == [call["summary"] for call in foretold["calls"]]
    assert not done["reboot_required"]
    assert done["guest"]["status"] == "running"
    assert not run(world, RUNNING, kind, name, value, reboot=True)["changed"]


@pytest.mark.parametrize(("kind", "name"), WRITTEN_BY_OTHERS, ids=lambda value: value)
def test_what_another_client_has_written_in_other_words_is_left_alone(world: World, kind: str, name: str) -> None:
    values = spellings(kind, name)
    write(world, kind, name, values[0])
    world.cluster.log.clear()
    for value in values:
        result = run(world, STOPPED, kind, name, value)
        assert not result["changed"], (value, result["calls"], result["diff"])
    assert not writes(world)
