"""The check of parameters, beyond what the recordings show; texts as in pve-common, PVE/JSONSchema.pm."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.simulator import Cluster, schema
from tests.simulator.formats import PROPERTIES, SCALARS, UNCHECKED

CONFIG = ("PUT", "/nodes/{node}/qemu/{vmid}/config")
UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"


@pytest.fixture
def known(cluster: Cluster) -> schema.Schema:
    return cluster.schema


def errors(known: schema.Schema, **params: Any) -> dict[str, str]:
    return known.endpoint(*CONFIG).check({"node": "pve1", "vmid": "100", **params})[1]


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("onboot", "yes", "type check ('boolean') failed - got 'yes'"),
        ("cores", "two", "type check ('integer') failed - got 'two'"),
        ("cores", True, "type check ('integer') failed - got JSON::PP::Boolean"),
        ("cores", "0", "value must have a minimum value of 1"),
        ("cpulimit", "129", "value must have a maximum value of 128"),
        ("memory", "5", "invalid format - format error\nmemory.current: value must have a minimum value of 16\n"),
        ("net32", "virtio", UNKNOWN),
        (
            "net0",
            "bridge=vmbr0",
            "invalid format - format error\nnet0.model: property is missing and it is not optional\n",
        ),
        ("scsi31", "none", UNKNOWN),
        ("scsi0", "local:8,cache=fast", None),
        ("boot", "order=scsi0;foo9", None),
        ("ipconfig0", "gw=10.0.0.1", None),
        ("cpu", "host,flags=+nonsense", None),
        ("startup", "order=first", "invalid format - unable to parse startup options\n"),
        ("ostype", "beos", None),
        ("sshkeys", "ssh-ed25519 AAAA", "invalid format - invalid urlencoded string: ssh-ed25519 AAAA\n"),
        ("name", "a_b", "invalid format - value does not look like a valid DNS name\n"),
        ("digest", "x" * 41, "value may only be 40 characters long"),
        ("balloon", {"a": 1}, "type check ('integer') failed - got HASH"),
    ],
)
def test_what_is_refused(known: schema.Schema, option: str, value: Any, text: str | None) -> None:
    found = errors(known, **{option: value})
    assert list(found) == [option]
    assert text is None or found[option] == text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("onboot", True),
        ("onboot", "0"),
        ("cores", 4),
        ("net31", "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=on"),
        ("net0", "e1000,bridge=vmbr0"),
        ("scsi30", "local-lvm:8,iothread=yes,discard=on,ssd=1"),
        ("cdrom", "local:iso/a.iso,media=cdrom"),
        ("ide2", "local:cloudinit"),
        ("agent", "enabled=1,fstrim_cloned_disks=1"),
        ("agent", "1,guest-fsfreeze=0"),
        ("boot", "order=scsi0;net0"),
        ("cpu", "x86-64-v2-AES,flags=+aes;-pcid"),
        ("machine", "pc-q35-9.2+pve1"),
        ("tags", "a;b,c d"),
        ("tags", ["a", "b"]),
        ("startup", "order=1,up=30"),
        ("hotplug", "0"),
        ("ipconfig0", "ip=dhcp,ip6=auto"),
        ("smbios1", "uuid=7d2068ac-f6dd-42ba-b7c2-cbeff9347a31,base64=1"),
        ("hostpci0", "0000:01:00.0,pcie=1"),
        ("description", "line\nline"),
    ],
)
def test_what_is_accepted(known: schema.Schema, option: str, value: Any) -> None:
    assert errors(known, **{option: value}) == {}


def test_values_get_their_types(known: schema.Schema) -> None:
    raw = {
        "node": "pve1",
        "vmid": "100",
        "cores": "2",
        "onboot": True,
        "cpulimit": "1.5",
        "memory": "512",
        "tags": ["b", "a"],
    }
    clean, found = known.endpoint(*CONFIG).check(raw)
    assert not found
    assert clean == {
        "node": "pve1",
        "vmid": 100,
        "cores": 2,
        "onboot": 1,
        "cpulimit": 1.5,
        "memory": "512",
        "tags": "b,a",
    }


def test_errors_come_for_every_parameter(known: schema.Schema) -> None:
    found = known.endpoint("POST", "/nodes/{node}/qemu").check({"node": "pve1", "bogus": "1", "cores": "x"})[1]
    assert set(found) == {"vmid", "bogus", "cores"}


def test_a_parameter_may_ask_for_another(known: schema.Schema) -> None:
    found = known.endpoint("POST", "/nodes/{node}/qemu").check({"node": "pve1", "vmid": "100", "unique": "1"})[1]
    assert found == {"archive": "missing property required by 'unique'"}


def test_paths_are_found(known: schema.Schema) -> None:
    hit = known.find("GET", "/nodes/pve1/storage/local/content/local:backup/a/b.vma")
    assert hit is not None
    assert hit[1] == {"node": "pve1", "storage": "local", "volume": "local:backup/a/b.vma"}
    assert known.find("GET", "/nodes/pve1/qemu/100/status/start") is None
    assert known.find("GET", "/nosuch") is None


def test_every_format_is_known(known: schema.Schema) -> None:
    def names(prop: Any) -> list[str]:
        form = prop.get("format")
        if isinstance(form, dict):
            return [name for inner in form.values() for name in names(inner)]
        return [form] if form else []

    used = {name for end in known.endpoints() for prop in end.parameters.values() for name in names(prop)}
    bare = {re.sub("-(?:list|opt)$", "", name): name for name in used}
    unknown = [name for base, name in bare.items() if not {base, name} & {*SCALARS, *UNCHECKED, *PROPERTIES}]
    assert unknown == []


def test_every_pattern_compiles_and_none_is_slow(known: schema.Schema) -> None:
    patterns = {prop["pattern"] for end in known.endpoints() for prop in end.parameters.values() if prop.get("pattern")}
    assert len(patterns) >= 50
    for pattern in patterns:
        # Among them one that takes exponential time as it is published.
        schema.compile_pattern(pattern).search("a" * 200 + "!")


def test_a_missing_schema_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("KEEL_SCHEMA_DIR", str(tmp_path))
    monkeypatch.delenv("PVE_APIDOC", raising=False)
    with pytest.raises(schema.SchemaMissing, match="make schema"):
        schema.load.__wrapped__()


def test_a_servers_own_apidoc(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    file = tmp_path / "apidoc.js"
    info = '{"GET": {"method": "GET", "parameters": {"additionalProperties": 0}, "permissions": {"user": "all"}}}'
    file.write_text(
        f'const apiSchema = [{{"path": "/a", "info": {info}, "children": [{{"path": "/a/{{b}}", "info": {info}}}]}}]\n;'
    )
    monkeypatch.setenv("PVE_APIDOC", str(file))
    assert sorted(end.template for end in schema.load.__wrapped__().endpoints()) == ["/a", "/a/{b}"]
