"""Texts of the API and what they mean."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.wire import (
    Properties,
    boolean,
    canonical,
    format_properties,
    format_size,
    gibibytes,
    meaning,
    merge_properties,
    number,
    number_text,
    parse_properties,
    parse_size,
    parse_tags,
    parse_upid,
    parse_wanted_size,
    shown_properties,
    words,
)

G = 1024**3

NET = Properties(
    default_key="model",
    booleans=frozenset({"firewall"}),
    numbers=frozenset({"tag", "rate"}),
    sets=frozenset({"trunks"}),
    folded=frozenset({"macaddr"}),
    aliases={"mac": "macaddr"},
    models=frozenset({"virtio", "e1000"}),
    model_value="macaddr",
    switches={"discard": ("on", "ignore")},
    defaults={"firewall": "0"},
    excludes={"ip=dhcp": ("gw",), "mapping": ("host",)},
)


def test_upid() -> None:
    upid = parse_upid("UPID:pve1:00000159:00061E4A:6B006CEF:qmconfig:100:root@pam!lab:")
    assert upid is not None
    assert (upid.node, upid.type, upid.id, upid.user, upid.start) == (
        "pve1",
        "qmconfig",
        "100",
        "root@pam!lab",
        0x6B006CEF,
    )
    assert [parse_upid(text) for text in ("OK", None, "", "UPID:pve1:1:2:3:x:y:z:")] == [None] * 4


def test_tags() -> None:
    assert parse_tags("prod;web") == ("prod", "web")
    assert parse_tags("b,a b") == ("b", "a", "b")
    assert parse_tags(None) == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, True) for value in (True, 1, "1", "on", "Yes", "true")),
        *((value, False) for value in (False, 0, "0", "off", "no", "FALSE")),
    ],
)
def test_boolean(value: object, expected: bool) -> None:
    assert boolean(value) is expected


@pytest.mark.parametrize("value", ["", "2", "maybe", None])
def test_no_boolean(value: object) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        boolean(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [("2", "2"), ("2.0", "2"), (2.50, "2.5"), (" 0.1 ", "0.1"), ("100", "100"), ("0", "0"), ("0.0", "0")],
)
def test_number(value: object, text: str) -> None:
    assert number_text(number(value)) == text


@pytest.mark.parametrize("value", ["", "x", True, "nan", "inf", None])
def test_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="is no number"):
        number(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a;b, c", ("a", "b", "c")),
        (["a", " b ", "", "c;d"], ("a", "b", "c", "d")),
        (None, ()),
        ("", ()),
        ("a\0b", ("a", "b")),
    ],
)
def test_words(value: object, expected: tuple[str, ...]) -> None:
    assert words(value) == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [("32G", 32 * G), ("528K", 528 * 1024), ("1.5T", 1536 * G), ("512", 512), ("4M", 4 * 1024**2), ("1GiB", G)],
)
def test_size_of_the_server(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (32, 32 * G),
        ("32", 32 * G),
        ("32G", 32 * G),
        ("32GB", 32 * G),
        ("32 GB", 32 * G),
        (" 32 GiB ", 32 * G),
        ("0.5", G // 2),
        ("512m", G // 2),
        (1.5, 3 * G // 2),
    ],
)
def test_size_of_a_person(value: object, size: int) -> None:
    assert parse_wanted_size(value) == size


@pytest.mark.parametrize("value", ["", "lots", "-1G", "+1G", "1X", "G", "3 2G", "40 g b"])
def test_no_size(value: str) -> None:
    with pytest.raises(ValueError, match=f"'{re.escape(value)}' is no size"):
        parse_wanted_size(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (32 * G, "32G"),
        (528 * 1024, "528K"),
        (4 * 1024**2, "4M"),
        (1536 * G, "1536G"),
        (2048 * G, "2T"),
        (1000, "1000"),
        (0, "0"),
    ],
)
def test_size_as_the_server_writes_it(size: int, text: str) -> None:
    assert format_size(size) == text


def test_gibibytes() -> None:
    assert [gibibytes(size) for size in (32 * G, G // 2, 100 * G)] == ["32", "0.5", "100"]


PARSED: list[tuple[Any, dict[str, str]]] = [
    ("virtio=BC:24:11:2F:30:6B,bridge=vmbr0", {"model": "virtio", "macaddr": "BC:24:11:2F:30:6B", "bridge": "vmbr0"}),
    ("virtio,bridge=vmbr0", {"model": "virtio", "bridge": "vmbr0"}),
    ("bridge=vmbr0,model=virtio", {"model": "virtio", "bridge": "vmbr0"}),
    ("virtio,,tag=2,", {"model": "virtio", "tag": "2"}),
    ({"model": "virtio", "mac": "aa:bb", "tag": 20}, {"model": "virtio", "macaddr": "aa:bb", "tag": "20"}),
    ({"virtio": "AA:BB", "bridge": "vmbr0"}, {"model": "virtio", "macaddr": "AA:BB", "bridge": "vmbr0"}),
    ({"firewall": True, "trunks": [10, "20-30"]}, {"firewall": "1", "trunks": "10;20-30"}),
    ({"discard": True}, {"discard": "on"}),
    ({"discard": False}, {"discard": "ignore"}),
    ({"tag": None, "bridge": ""}, {"bridge": ""}),
    ("serial=QUJD==", {"serial": "QUJD=="}),
    (True, {"model": "1"}),
    ("", {}),
    ({}, {}),
]


@pytest.mark.parametrize(("value", "found"), PARSED)
def test_parse_properties(value: object, found: dict[str, str]) -> None:
    assert parse_properties(NET, value) == found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("virtio,e1000", "given twice"),
        ("virtio=AA,mac=BB", "given twice"),
        ({"mac": "AA", "macaddr": "BB"}, "given twice"),
        ("tag=x", "is no number"),
        ({"firewall": "perhaps"}, "neither true nor false"),
        ("tag=", "lacks its value"),
        ("=1", "lacks its key"),
        ({"bridge": "a,tag=1"}, "comma"),
    ],
)
def test_no_properties(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_properties(NET, value)


def test_a_value_without_key_needs_a_default_key() -> None:
    with pytest.raises(ValueError, match="has no key"):
        parse_properties(Properties(), "alone")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("virtio,firewall=0", "virtio", True),
        ("virtio,firewall=on", "firewall=1,model=virtio", True),
        ("virtio=aa:bb", "virtio=AA:BB", True),
        ("virtio,rate=2", "virtio,rate=2.0", True),
        ("virtio,trunks=1;2", "virtio,trunks=2;1", True),
        ("virtio,tag=1", "virtio,tag=2", False),
        ("virtio", "e1000", False),
        ("virtio,bridge=A", "virtio,bridge=a", False),
    ],
)
def test_meaning(one: str, other: str, same: bool) -> None:
    assert (meaning(NET, parse_properties(NET, one)) == meaning(NET, parse_properties(NET, other))) is same


@pytest.mark.parametrize(
    ("present", "wanted", "merged"),
    [
        ("virtio=AA:BB,bridge=vmbr0,firewall=1", {"tag": 20}, "virtio=AA:BB,bridge=vmbr0,firewall=1,tag=20"),
        ("virtio=AA:BB,bridge=vmbr0", {"model": "e1000"}, "e1000=AA:BB,bridge=vmbr0"),
        ("virtio=AA:BB,bridge=vmbr0", {"mac": "aa:bb"}, "virtio=AA:BB,bridge=vmbr0"),
        ("virtio,tag=20", {"tag": ""}, "virtio"),
        ("virtio,tag=20", {"rate": ""}, "virtio,tag=20"),
        ("ip=10.0.0.1/24,gw=10.0.0.254", {"ip": "dhcp"}, "ip=dhcp"),
        ("ip=10.0.0.1/24,gw=10.0.0.254", {"ip": "10.0.0.2/24"}, "gw=10.0.0.254,ip=10.0.0.2/24"),
        ("host=1,x=2", {"mapping": "gpu"}, "mapping=gpu,x=2"),
        ("", {"firewall": True}, "firewall=1"),
    ],
)
def test_merge(present: str, wanted: dict[str, object], merged: str) -> None:
    found = merge_properties(NET, parse_properties(NET, present), parse_properties(NET, wanted))
    assert format_properties(NET, found) == merged


def test_booleans_are_written_as_digits() -> None:
    assert format_properties(NET, {"model": "virtio", "firewall": "yes"}) == "virtio,firewall=1"


def test_a_default_value_with_an_equals_sign_gets_its_key() -> None:
    form = Properties(default_key="file")
    text = format_properties(form, {"file": "/dev/x=y", "size": "4G"})
    assert text == "file=/dev/x=y,size=4G"
    assert parse_properties(form, text) == {"file": "/dev/x=y", "size": "4G"}


def test_shown() -> None:
    found = parse_properties(NET, "virtio,tag=20,trunks=2;1,rate=1.5")
    keys = ("model", "tag", "trunks", "rate", "firewall", "bridge")
    assert shown_properties(NET, found, keys) == {
        "model": "virtio",
        "tag": 20,
        "trunks": ["1", "2"],
        "rate": 1.5,
        "firewall": False,
    }


def test_canonical_of_plain_text_is_itself() -> None:
    assert canonical(NET, "bridge", "vmbr0") == "vmbr0"
    assert number(Decimal("2")) == 2
