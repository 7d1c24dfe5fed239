"""Laws of the codecs, over generated values: reading what was written, comparing, merging."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.backup_jobs import OPTIONS as BACKUP_JOB
from ansible_collections.keel.proxmox.plugins.module_utils.options import (
    LXC,
    OPTIONS,
    QEMU,
    READ,
    WRITE,
    Option,
    Scalar,
    properties_of,
    settle,
)
from ansible_collections.keel.proxmox.plugins.module_utils.wire import (
    Properties,
    canonical,
    format_properties,
    format_size,
    meaning,
    merge_properties,
    parse_properties,
    parse_size,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from tests.simulator import Cluster

from .simulator.api import Api

set_hypothesis_home_dir(Path(__file__).resolve().parents[2] / ".cache" / "hypothesis")
QUICK = settings(database=None, deadline=None, max_examples=20)

ALL_FORMS = [
    (f"{kind}-{key}", option)
    for kind, table in OPTIONS.items()
    for key, option in table.items()
    if isinstance(option, Properties)
] + [(f"backup-{name}", option) for name, (_parameter, option) in BACKUP_JOB.items() if isinstance(option, Properties)]
# Several options share a form.
FORMS = {
    name: form
    for index, (name, form) in enumerate(ALL_FORMS)
    if form not in [other for _name, other in ALL_FORMS[:index]]
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)

WORD = st.text(string.ascii_letters + string.digits + "-_./:+", min_size=1, max_size=12)


def keys_of(form: Properties) -> list[str]:
    named = form.booleans | form.numbers | form.sets | form.folded | set(form.defaults) | {"bridge", "other"}
    if form.default_key is not None:
        named |= {form.default_key}
    if form.model_value is not None:
        named |= {form.model_value}
    return sorted(named)


def value_of(form: Properties, key: str) -> st.SearchStrategy[str]:
    if key in form.booleans:
        return st.sampled_from(["0", "1", "on", "off", "yes", "no", "true", "false"])
    if key in form.numbers:
        return st.integers(0, 10**6).map(str) | st.decimals(0, 1000, places=2).map(str)
    if key in form.sets:
        return st.lists(WORD, min_size=1, max_size=3).map(";".join)
    if key == form.default_key and form.models:
        return st.sampled_from(sorted(form.models))
    return WORD


def properties(form: Properties) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional={key: value_of(form, key) for key in keys_of(form)})


@forms
@QUICK
@given(data=st.data())
def test_what_is_written_reads_the_same(form: Properties, data: st.DataObject) -> None:
    found = data.draw(properties(form))
    assert meaning(form, parse_properties(form, format_properties(form, found))) == meaning(form, found)


@forms
@QUICK
@given(data=st.data())
def test_what_is_written_is_written_again_the_same(form: Properties, data: st.DataObject) -> None:
    text = format_properties(form, data.draw(properties(form)))
    assert format_properties(form, parse_properties(form, text)) == text


@forms
@QUICK
@given(data=st.data())
def test_canonical_twice_is_canonical_once(form: Properties, data: st.DataObject) -> None:
    for key, value in data.draw(properties(form)).items():
        once = canonical(form, key, value)
        assert canonical(form, key, once) == once


@forms
@QUICK
@given(data=st.data())
def test_merging_keeps_what_is_not_named(form: Properties, data: st.DataObject) -> None:
    present, wanted = data.draw(properties(form)), data.draw(properties(form))
    merged = merge_properties(form, present, wanted)
    for key, value in wanted.items():
        assert canonical(form, key, merged[key]) == canonical(form, key, value)
    replaced = {
        gone
        for key, value in wanted.items()
        for name in (key, f"{key}={value}")
        for gone in form.excludes.get(name, ())
    }
    for key in set(present) - set(wanted) - replaced:
        assert merged[key] == present[key]
    assert set(merged) <= set(present) | set(wanted)


@forms
@QUICK
@given(data=st.data())
def test_merging_twice_is_merging_once(form: Properties, data: st.DataObject) -> None:
    present, wanted = data.draw(properties(form)), data.draw(properties(form))
    once = merge_properties(form, present, wanted)
    assert merge_properties(form, once, wanted) == once


@forms
@QUICK
@given(data=st.data())
def test_merging_with_itself_changes_nothing(form: Properties, data: st.DataObject) -> None:
    # Keys that exclude each other are never there together.
    excluding = {name.partition("=")[0] for name in form.excludes}
    present = {key: value for key, value in data.draw(properties(form)).items() if key not in excluding}
    assert merge_properties(form, present, present) == present


@QUICK
@given(size=st.integers(0, 2**50))
def test_sizes_read_as_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


TEXTS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans() | st.sampled_from([0, 1, "on", "off", "yes", "no"]),
    "integer": st.integers(0, 10**6) | st.integers(0, 10**6).map(str),
    "weight": st.integers(1, 500000),
    "memory": st.integers(16, 10**7) | st.integers(16, 10**7).map(lambda value: f"current={value}"),
    "number": st.integers(0, 100) | st.decimals(0, 100, places=2).map(float),
    "text": WORD,
    "folded": WORD,
    "description": st.text(string.printable, max_size=40),
    "tags": st.lists(WORD, max_size=4),
    "words": st.lists(WORD, max_size=4),
    "hotplug": st.lists(st.sampled_from(["network", "disk", "usb", "cpu", "memory", "cloudinit"]), min_size=1)
    | st.sampled_from(["0", "1"]),
    "boot": st.lists(st.from_regex(r"(scsi|net|ide)\d", fullmatch=True), min_size=1, unique=True)
    | st.from_regex(r"order=scsi\d(;net\d)?", fullmatch=True)
    | st.from_regex(r"[acdn]{1,4}", fullmatch=True),
    "ssh keys": st.lists(
        st.from_regex(r"ssh-ed25519 AAAA[a-zA-Z0-9+/]{4,20}={0,2}( [a-z]+@[a-z]+)?", fullmatch=True), max_size=3
    ),
    "cpus": st.lists(st.integers(0, 200), max_size=8).map(lambda cpus: ",".join(map(str, cpus))),
    "vmids": st.lists(st.integers(100, 10**6), max_size=4)
    | st.lists(st.integers(100, 999)).map(lambda vmids: " ".join(map(str, vmids))),
    "set": st.lists(WORD, max_size=4),
    "paths": st.lists(WORD, max_size=4),
    "schedule": st.from_regex(r"([A-Z][a-z]{2}(\.\.[a-z]{3})? +)?\d\d:\d\d", fullmatch=True),
    "environment": st.lists(st.from_regex(r"\w{1,5}=[ -~]{0,10}", fullmatch=True), max_size=3),
}


def test_every_kind_of_value_is_generated() -> None:
    tables = (QEMU, LXC, {name: option for name, (_parameter, option) in BACKUP_JOB.items()})
    used = {option.kind for table in tables for option in table.values() if isinstance(option, Scalar)}
    assert used == set(TEXTS) == set(READ)
    assert set(WRITE) < set(READ)


@pytest.mark.parametrize("kind", TEXTS)
@QUICK
@given(data=st.data())
def test_what_is_sent_means_what_was_wanted(kind: str, data: st.DataObject) -> None:
    wanted = data.draw(TEXTS[kind])
    change = settle(Scalar(kind), "x", None, wanted)
    if change.value is None:
        assert change.before == change.after
    else:
        # Booleans travel as digits.
        stored = str(int(change.value)) if isinstance(change.value, bool) else change.value
        # So do all but lists.
        stored = stored if isinstance(stored, list) else str(stored)
        again = settle(Scalar(kind), "x", stored, wanted)
        assert not again.changes
        assert again.before == change.after


@pytest.mark.parametrize("kind", TEXTS)
@QUICK
@given(data=st.data())
def test_comparing_is_an_equivalence(kind: str, data: st.DataObject) -> None:
    one, other = data.draw(TEXTS[kind]), data.draw(TEXTS[kind])
    read = READ[kind]
    assert read(one) == read(one)
    assert (read(one) == read(other)) is (read(other) == read(one))
    option: Option = Scalar(kind)
    assert settle(option, "x", None, one).after == settle(option, "x", None, one).after


@forms
@QUICK
@given(data=st.data())
def test_settling_converges_and_keeps_its_promise(form: Properties, data: st.DataObject) -> None:
    present = format_properties(form, data.draw(properties(form)))
    wanted = data.draw(properties(form))
    key = "net0"
    change = settle(form, key, present or None, wanted)
    if change.value is not None:
        again = settle(form, key, change.value, wanted)
        assert not again.changes
        assert again.before == change.after


@forms
@QUICK
@given(data=st.data())
def test_comparing_properties_is_an_equivalence(form: Properties, data: st.DataObject) -> None:
    # Where both name the same keys, there is a change exactly where their canonical values differ, whichever is there already.
    excluding = {name.partition("=")[0] for name in form.excludes}
    one = {key: value for key, value in data.draw(properties(form)).items() if key not in excluding}
    other = {key: data.draw(st.just(value) | value_of(form, key)) for key, value in one.items()}
    assume(one)
    differ = any(canonical(form, key, one[key]) != canonical(form, key, other[key]) for key in one)
    for present, wanted in ((one, other), (other, one)):
        assert settle(form, "net0", format_properties(form, present), wanted).changes is differ
    assert not settle(form, "net0", format_properties(form, one), one).changes


YES, NO = ("1", "on", "yes", "true"), ("0", "off", "no", "false")
BOOLEAN = st.sampled_from(YES + NO)
MAC = st.builds("BC:24:11:{:02x}:{:02X}:{:02x}".format, *[st.integers(0, 255)] * 3)
RATE = st.integers(1, 500).map(str) | st.integers(1, 5000).map(lambda tenths: str(tenths / 10))

# Every key that the server writes anew when it stores these, in words of a person's.
REWRITTEN: dict[str, dict[str, st.SearchStrategy[str]]] = {
    "qemu net0": {
        "model": st.sampled_from(["virtio", "e1000", "vmxnet3"]),
        "macaddr": MAC,
        "bridge": st.sampled_from(["vmbr0", "vmbr1"]),
        "firewall": BOOLEAN,
        "link_down": BOOLEAN,
        "mtu": st.integers(576, 9000).map(str),
        "queues": st.integers(1, 16).map(str),
        "rate": RATE,
        "tag": st.integers(2, 4094).map(str),
    },
    "qemu scsi0": {
        "file": st.just("local-lvm:vm-100-disk-0"),
        "discard": st.sampled_from(["on", "ignore"]),
        "iothread": BOOLEAN,
        "ssd": BOOLEAN,
        "backup": BOOLEAN,
        "ro": BOOLEAN,
        "cache": st.sampled_from(["none", "writeback"]),
        "aio": st.sampled_from(["native", "io_uring"]),
        "mbps_rd": RATE,
        "iops_wr": st.integers(10, 10**5).map(str),
        "serial": st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True),
    },
    "lxc net0": {
        "name": st.just("eth0"),
        "hwaddr": MAC,
        "bridge": st.sampled_from(["vmbr0", "vmbr1"]),
        "firewall": BOOLEAN,
        "ip": st.sampled_from(["dhcp", "10.0.0.5/24"]),
        "mtu": st.integers(576, 9000).map(str),
        "rate": RATE,
        "tag": st.integers(2, 4094).map(str),
    },
}
NEEDED = {"model", "file", "name", "bridge"}


def stored(kind: str, key: str, value: object) -> Any:
    """Return what the simulated server has made of a value, by code that shares nothing with the collection's."""
    cluster = Cluster()
    guest = cluster.add_vm(100, disk="local-lvm:8") if kind == "qemu" else cluster.add_ct(100)
    api = Api(cluster)
    api.data("PUT", f"/nodes/pve1/{guest.kind}/100/config", **{key: value})
    return api.config(100).get(key)


@pytest.mark.parametrize("name", REWRITTEN)
@QUICK
@given(data=st.data())
def test_what_the_server_makes_of_properties_means_the_same(name: str, data: st.DataObject) -> None:
    kind, _space, key = name.partition(" ")
    form, keys = properties_of(kind, key), REWRITTEN[name]
    wanted = data.draw(
        st.fixed_dictionaries(
            {key: value for key, value in keys.items() if key in NEEDED},
            optional={key: value for key, value in keys.items() if key not in NEEDED},
        )
    )
    text = ",".join(f"{key}={value}" for key, value in data.draw(st.permutations(sorted(wanted.items()))))
    found = parse_properties(form, stored(kind, key, text))
    meant = parse_properties(form, text)
    assert {key: canonical(form, key, found[key]) for key in meant} == {
        key: canonical(form, key, value) for key, value in meant.items()
    }
    assert (
        merge_properties(form, found, meant) == found
        or not settle(form, key, format_properties(form, found), meant).changes
    )


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF2tGr9vXTCTC5iuNzh4Tn6fkjRZN9m0uJrZg1d3P3fE"

# Whether tags keep upper case is the datacenter's choice; proxmox_vm_config asks for it.
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "tags": st.lists(st.from_regex(r"[a-z0-9_][a-z0-9_.+-]{0,5}", fullmatch=True), min_size=1, max_size=4),
    "description": st.text(string.ascii_letters + string.digits + " #%:;=,\n", min_size=1, max_size=30).map(
        lambda text: f"x{text}"
    ),
    "onboot": st.booleans(),
    "cores": st.integers(1, 16),
    "memory": st.integers(16, 10**5),
    "cpuunits": st.integers(1, 200000),
    "hotplug": st.lists(st.sampled_from(["network", "disk", "usb", "cpu", "memory"]), min_size=1, unique=True),
    "boot": st.just(["scsi0"]),
    "sshkeys": st.lists(st.from_regex(r"[a-z]{1,5}@[a-z]{1,5}", fullmatch=True), min_size=1, unique=True).map(
        lambda comments: [f"{KEY} {comment}" for comment in comments]
    ),
    "nameserver": st.lists(st.sampled_from(["1.1.1.1", "9.9.9.9", "fd00::1"]), min_size=1, unique=True),
}


@pytest.mark.parametrize("key", SCALARS)
@QUICK
@given(data=st.data())
def test_what_the_server_makes_of_a_value_means_the_same(key: str, data: st.DataObject) -> None:
    option, wanted = QEMU[key], data.draw(SCALARS[key])
    change = settle(option, key, None, wanted)
    assume(change.value is not None)
    value = int(change.value) if isinstance(change.value, bool) else change.value
    assert not settle(option, key, stored("qemu", key, value), wanted).changes


def test_generated_keys_are_the_tables_own() -> None:
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]+", key) for form in FORMS.values() for key in keys_of(form))
