"""Any endpoint: what is compared by meaning, what is written, and the tables that tell it, held to the server's schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.api import FEATURE, Observed, decide, wanted
from ansible_collections.keel.proxmox.plugins.module_utils.endpoints import (
    DEFAULTS,
    DIGESTS,
    LISTS,
    PROPERTIES,
    defaults_of,
    meaning,
    takes_digest,
)
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError, Refused
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call, Plan

from tests.simulator import schema

STORAGE = "/storage/nfs"
# Parameters that say how a change is made, not what the object is like.
MANNERS = {"allow-move", "append", "delete", "digest", "lock-token", "regenerate", "regenerate-frr", "release-lock"}
# Defaults that mean something else than a value, or of parameters that only count when an object is made.
UNTOLD = {
    "expire",
    "propagate",
    "create-base-path",
    "create-subdirs",
    "mkdir",
    "max-protected-backups",
    "stop",
    "quiet",
}
UNTOLD |= {"is_mountpoint"}


def parts(template: str) -> str:
    return re.sub(r"\{[^}]+\}", "x", template)


def puts() -> dict[str, Any]:
    """The endpoints that change an object that can be read."""
    known = schema.load()
    found = {}
    for endpoint in known.endpoints():
        if endpoint.method == "PUT" and known.find("GET", parts(endpoint.template)) is not None:
            found[endpoint.template] = endpoint
    return found


PUTS = puts()


def test_the_defaults_are_those_of_the_schema() -> None:
    told = {}
    for template, endpoint in PUTS.items():
        if template.endswith("/{vmid}/config"):
            continue
        for name, rules in endpoint.parameters.items():
            if "default" not in rules or name in UNTOLD | MANNERS or f"{{{name}}}" in template:
                continue
            default = rules["default"]
            told[template, name] = str(default) in ("1", "true", "yes") if rules.get("type") == "boolean" else default
    listed = {(template, name): value for template, found in DEFAULTS.items() for name, value in found.items()}
    assert {key: value for key, value in listed.items() if key not in told} == {}
    assert {key: told[key] for key in told if key not in listed} == {}
    assert {key: (value, told[key]) for key, value in listed.items() if value != told[key]} == {}


def test_the_lists_are_those_of_the_schema() -> None:
    lists, others = set(), set()
    for template, endpoint in PUTS.items():
        if template.endswith("/{vmid}/config"):
            continue
        for name, rules in endpoint.parameters.items():
            form = rules.get("format")
            (lists if isinstance(form, str) and form.endswith("-list") else others).add(name)
    assert lists - others <= LISTS
    assert lists >= LISTS - {"mailto"}, "nothing is a list that nowhere is one"


def test_the_property_strings_are_those_of_the_schema() -> None:
    forms = {
        re.sub(r"\[n\]|\d+$", "", name)
        for template, endpoint in PUTS.items()
        if not template.endswith("/{vmid}/config")
        for name, rules in endpoint.parameters.items()
        if isinstance(rules.get("format"), dict)
    }
    assert forms - {"acmedomain"} <= PROPERTIES


def test_the_digests_are_those_of_the_schema() -> None:
    assert {template for template, endpoint in PUTS.items() if "digest" in endpoint.parameters} == DIGESTS
    assert takes_digest(STORAGE)
    assert not takes_digest("/pools/test")


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("disable", True, 1),
        ("disable", False, "0"),
        ("port", 8086, "8086"),
        ("bwlimit", "clone=1000,move=500", {"move": 500, "clone": "1000"}),
        ("content", "images,iso", ["iso", "images"]),
        ("nodes", "pve1;pve2", "pve2, pve1"),
        ("comment", "two words\n", "two words"),
        ("prune-backups", "keep-last=3,keep-daily=7", "keep-daily=7,keep-last=3"),
    ],
)
def test_what_means_the_same(name: str, one: object, other: object) -> None:
    assert meaning(name, one) == meaning(name, other)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("comment", "a,b", "b,a"),
        ("disable", True, 0),
        ("content", "iso", "iso,images"),
        ("path", "/a", "/A"),
        ("x", "", "0"),
    ],
)
def test_what_does_not(name: str, one: object, other: object) -> None:
    assert meaning(name, one) != meaning(name, other)


def asked(**given: Any) -> Any:
    return wanted({"method": "put", "path": STORAGE, "compare": True, **given})


def planned(present: dict[str, Any] | None, *done: Call, **given: Any) -> Plan:
    return decide(asked(**given), Observed(present), done)


@pytest.mark.parametrize(
    ("present", "params", "sent"),
    [
        ({"content": "iso,images"}, {"content": ["images", "iso"]}, None),
        ({"content": "iso"}, {"content": ["images", "iso"], "path": "/x"}, {"content": "images,iso", "path": "/x"}),
        ({"content": "iso", "digest": "d"}, {"content": "images"}, {"content": "images", "digest": "d"}),
        ({}, {"snapshot-as-volume-chain": False}, None),
        ({}, {"snapshot-as-volume-chain": True}, {"snapshot-as-volume-chain": True}),
        ({"nodes": "a"}, {"delete": "nodes,options"}, {"delete": "nodes"}),
        ({}, {"delete": ["nodes"]}, None),
        ({"bwlimit": "clone=1"}, {"bwlimit": {"clone": 1}}, None),
        ({"bwlimit": "clone=1"}, {"bwlimit": {"clone": 2}}, {"bwlimit": "clone=2"}),
        ({"a": None}, {"a": None}, None),
    ],
)
def test_only_what_differs_is_written(
    present: dict[str, Any], params: dict[str, Any], sent: dict[str, Any] | None
) -> None:
    plan = planned(present, params=params)
    assert [dict(call.params) for call in plan.calls] == ([] if sent is None else [sent])


def test_what_a_server_wants_each_time_goes_along() -> None:
    plan = planned({"type": "vnet", "tag": 1}, path="/cluster/sdn/vnets/a", params={"type": "vnet", "tag": 2})
    assert dict(plan.calls[0].params) == {"type": "vnet", "tag": 2}


@pytest.mark.parametrize(
    ("present", "params", "changes"),
    [
        ({"net0": "virtio=AA:BB:CC:DD:EE:FF,bridge=vmbr0"}, {"net0": "bridge=vmbr0,model=virtio"}, False),
        ({"net0": "virtio=AA:BB:CC:DD:EE:FF,bridge=vmbr0"}, {"net0": "virtio,bridge=vmbr1"}, True),
        ({"tags": "a;b"}, {"tags": "b,a"}, False),
        ({}, {"acpi": 1, "cores": 1}, False),
        ({"agent": "enabled=1"}, {"agent": 1}, False),
        ({"scsi0": "local:100/a.qcow2,size=4G"}, {"scsi0": "local:100/a.qcow2"}, False),
        ({}, {"scsi1": "local:4"}, True),
    ],
)
def test_options_of_guests_are_compared_as_such(present: dict[str, Any], params: dict[str, Any], changes: bool) -> None:
    plan = planned(present, path="/nodes/a/qemu/100/config", params=params)
    assert bool(plan.calls) is changes


def test_secrets_are_shown_nowhere_and_sent_with_a_change_only() -> None:
    secret = {"secret_params": {"password": "canary"}}
    assert planned({"port": 1}, params={"port": 1}, **secret).calls == ()
    plan = planned({"port": 1}, params={"port": 2}, **secret)
    assert plan.calls[0].params["password"] == "canary"
    assert "canary" not in json.dumps([plan.calls[0].shown(), dict(plan.before), dict(plan.after)])


def test_a_deed_is_done_once_in_a_run_and_never_repeated_blindly() -> None:
    want = wanted({"method": "post", "path": "/x", "compare": False})
    (call,) = decide(want, Observed(), ()).calls
    assert call.once
    assert decide(want, Observed(), (call,)).calls == ()
    assert (
        not decide(wanted({"method": "post", "path": "/x", "compare": False, "creates": "/x"}), Observed(), ())
        .calls[0]
        .once
    )


class Server:
    """Answers from a table; None is an object that does not exist."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {f"/{name}": answer for name, answer in answers.items()}

    def get(self, path: str, /, **query: object) -> Any:
        answer = self.answers[path]
        if isinstance(answer, ProxmoxError):
            raise answer
        return answer


GONE = ProxmoxError("GET /gone failed with status 500: no such pool 'gone'.", status=500)
DENIED = ProxmoxError("GET /denied failed with status 403: Permission check failed (/x, Sys.Audit).", status=403)
SERVER = Server(there={}, gone=GONE, denied=DENIED, list=[])


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ({"creates": "there"}, 0),
        ({"creates": "gone"}, 1),
        ({"removes": "there"}, 1),
        ({"removes": "gone"}, 0),
        ({"creates": "gone", "removes": "gone"}, 0),
    ],
)
def test_creates_and_removes(given: dict[str, str], calls: int) -> None:
    want = wanted({"method": "post", "path": "/x", "compare": False, **given})
    assert FEATURE.decide is not None
    assert len(FEATURE.decide(want, FEATURE.observe(want, SERVER, None), ()).calls) == calls


def test_what_may_not_be_seen_is_no_proof_of_absence() -> None:
    want = wanted({"method": "post", "path": "/x", "compare": False, "creates": "/denied"})
    with pytest.raises(ProxmoxError) as denied:
        FEATURE.observe(want, SERVER, None)
    assert denied.value.effect is Effect.PERMANENT


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"path": "/a?b=1"}, "parameters go into params"),
        ({"path": "/a/../b"}, "is no path"),
        ({"method": "get"}, "a GET changes nothing"),
        ({"compare": False, "read_path": "/a"}, "without compare"),
        ({"params": {"a": 1}, "secret_params": {"a": 2}}, "in params and in secret_params"),
    ],
)
def test_what_cannot_be_meant(given: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=re.escape(told)):
        asked(**given)


def test_paths_as_people_write_them() -> None:
    for text in ("/cluster/options", "cluster/options/", "/api2/json/cluster/options"):
        assert asked(path=text).path == "/cluster/options"


def test_defaults_belong_to_their_path() -> None:
    assert defaults_of("/cluster/ha/resources/vm:100")["max_restart"] == 1
    assert defaults_of("/cluster/ha/resources") == {}
