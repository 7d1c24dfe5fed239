"""Which guests are meant: each selector, all of them together, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError, Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest
from ansible_collections.keel.proxmox.plugins.module_utils.selection import Chosen, Selection, label, select, wanted

from .fakes import FakeReader


def row(vmid: int, name: str | None, node: str = "pve1", kind: str = "qemu", **more: object) -> dict[str, object]:
    named = {} if name is None else {"name": name}
    return {"vmid": vmid, "node": node, "type": kind, "id": f"{kind}/{vmid}", "status": "running", **named, **more}


ROWS = [
    row(103, "db01", "pve2", tags="db;prod", pool="prod/db"),
    row(101, "web01", tags="prod;web", pool="prod"),
    row(102, "web02", "pve2", tags="test;web", pool="test"),
    row(104, "box", kind="lxc", tags="prod"),
    row(900, "debian", template=1, tags="prod"),
    {"type": "node", "id": "node/pve1", "node": "pve1"},
]
# Live, by each node's own list; web02 is paused, and db01 has stopped since the cluster was last told.
LIVE = {
    "/nodes/pve1/qemu": [{"vmid": 101, "name": "web01", "status": "running", "qmpstatus": "running"}],
    "/nodes/pve1/lxc": [{"vmid": 104, "name": "box", "status": "running"}],
    "/nodes/pve2/qemu": [
        {"vmid": 102, "name": "web02", "status": "running", "qmpstatus": "paused"},
        {"vmid": 103, "name": "db01", "status": "stopped", "qmpstatus": "stopped"},
    ],
    "/nodes/pve2/lxc": [],
}


def reader(rows: list[dict[str, object]] | None = None, **more: Any) -> FakeReader:
    paths = {path.replace("__", "/"): answer for path, answer in more.items()}
    nodes = [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "online"}]
    return FakeReader({"/cluster/resources": ROWS if rows is None else rows, "/nodes": nodes, **LIVE, **paths})


def choose(options: Mapping[str, Any], api: FakeReader | None = None) -> Chosen:
    selection = wanted(options)
    assert selection is not None
    return select(api or reader(), selection)


def vmids(chosen: Chosen) -> list[int]:
    return [guest.vmid for guest in chosen.guests]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"vmids": [103, 101]}, [101, 103]),
        ({"vmids": [900, 101]}, [101, 900]),
        ({"names": ["web*"]}, [101, 102]),
        ({"names": ["~(web|db)01$"]}, [101, 103]),
        ({"names": ["*"]}, [101, 102, 103, 104]),
        ({"names": ["web01", "box"]}, [101, 104]),
        ({"with_tags": ["prod"]}, [101, 103, 104]),
        ({"with_tags": ["prod", "web"]}, [101]),
        ({"with_tags": ["~prod|test", "w*"]}, [101, 102]),
        ({"pools": ["prod", "prod/*"]}, [101, 103]),
        ({"nodes": ["pve2"]}, [102, 103]),
        ({"nodes": ["pve?"], "type": "lxc"}, [104]),
        ({"nodes": ["pve1"], "template": True}, [900]),
        ({"vmids": [900, 101], "template": False}, [101]),
        ({"names": ["*"], "with_tags": ["prod"], "nodes": ["pve1"], "type": "qemu"}, [101]),
        ({"status": ["running"]}, [101, 104]),
        ({"status": ["stopped", "paused"]}, [102, 103]),
        ({"status": ["stopped"], "names": ["d*"]}, [103]),
        ({"with_tags": [], "allow_none": True}, []),
        ({"vmids": [], "allow_none": True}, []),
        ({"names": ["nobody", "web01"], "allow_none": True}, [101]),
        ({"vmids": [101, 555], "allow_none": True}, [101]),
        ({"names": ["web*"], "max_guests": 2}, [101, 102]),
    ],
    ids=str,
)
def test_who_is_meant(options: dict[str, Any], expected: list[int]) -> None:
    assert vmids(choose(options)) == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"with_tags": ["prodd"]}, ["No guest is meant, of 5", "none with with_tags prodd (did you mean prod?)"]),
        ({"with_tags": ["zzz"]}, ["none with with_tags zzz (there are: db, prod, test, web)"]),
        ({"with_tags": []}, ["none with with_tags (empty)"]),
        ({"vmids": []}, ["none with vmids (empty)"]),
        ({"nodes": ["pve3"]}, ["none with nodes pve3 (did you mean pve2, pve1?)"]),
        ({"pools": ["live"]}, ["none with pools live", "Pool.Audit on /pool/POOL"]),
        ({"names": ["d*"], "nodes": ["pve1"], "type": "qemu"}, ["templates are meant only", "VM 900 (debian)"]),
        ({"names": ["b*"], "with_tags": ["web"]}, ["with all of names b* (met by 1); with_tags web (met by 2)"]),
        (
            {"names": ["db*"], "status": ["running"]},
            ["with status running of 1 that would be meant otherwise", "(there are: stopped)"],
        ),
        ({"vmids": [101, 555]}, ["vmids: there is no guest 555", "nothing was done to the others"]),
        ({"names": ["web1", "db*"]}, ["names: there is no guest web1 (did you mean web01", "VM.Audit on /vms/VMID"]),
        (
            {"names": ["*"], "max_guests": 3},
            ["4 guests are meant, more than max_guests (3)", "VM 101 (web01)", "CT 104"],
        ),
        ({"names": ["~("]}, ["is no regular expression"]),
    ],
    ids=str,
)
def test_nothing_is_done(options: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        choose(options)
    for text in says:
        assert text in refused.value.message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"vmid": 100, "max_guests": 3}, "max_guests: for several guests only"),
        ({"name": "web", "allow_none": True}, "allow_none: for several guests only"),
        ({"name": "web", "template": False}, None),
        ({"vmid": 100, "parallel_per_node": 2}, "parallel_per_node: for several guests only"),
        ({"vmid": 100}, None),
        ({"vmid": 100, "type": "lxc", "node": "pve1", "parallel": 8}, None),
        ({"vmids": [100], "max_guests": 0}, "max_guests is 0"),
    ],
    ids=str,
)
def test_one_guest_is_not_several(options: dict[str, Any], says: str | None) -> None:
    if says is None:
        assert wanted(options) is None
    else:
        with pytest.raises(Refused, match=says):
            wanted(options)


@pytest.mark.parametrize(
    ("wish", "stored", "style", "met"),
    [
        ("Prod", "prod", {}, True),
        ("prod", "Prod", {}, True),
        ("PR*", "prod", {"tag-style": {"shape": "full"}}, True),
        ("Prod", "prod", {"tag-style": {"case-sensitive": 1}}, False),
        ("Prod", "Prod", {"tag-style": "case-sensitive=1"}, True),
    ],
)
def test_case_of_tags_is_the_datacenters(wish: str, stored: str, style: dict[str, Any], met: bool) -> None:
    api = reader([row(101, "web", tags=stored)], __cluster__options=style)
    assert vmids(choose({"with_tags": [wish], "allow_none": True}, api)) == [101] * met
    assert api.asked == ["/cluster/resources", "/cluster/options"]


def test_it_costs_one_request() -> None:
    api = reader()
    choose({"names": ["web*"], "with_tags": ["web"], "pools": ["*"], "nodes": ["*"], "vmids": [101, 102]}, api)
    assert api.asked == ["/cluster/resources"]


def test_only_nodes_with_guests_in_question_are_asked_for_states() -> None:
    api = reader()
    assert vmids(choose({"names": ["db*"], "status": ["stopped"]}, api)) == [103]
    assert api.asked == ["/cluster/resources", "/nodes/pve2/qemu", "/nodes/pve2/lxc"]


def test_a_fresh_guest_is_asked_for_its_name() -> None:
    rows = [*ROWS, row(110, None), row(111, None, lock="clone")]
    api = reader(rows, __nodes__pve1__qemu__110__config={"name": "web03"})
    assert vmids(choose({"names": ["web*"]}, api)) == [101, 102, 110]
    assert api.asked == ["/cluster/resources", "/nodes/pve1/qemu/110/config"]


def test_many_fresh_guests_are_looked_up_in_the_lists_of_their_nodes() -> None:
    fresh = [row(vmid, None) for vmid in range(110, 120)]
    live = [{"vmid": vmid, "name": f"new{vmid}", "status": "stopped"} for vmid in range(110, 120)]
    api = reader([*ROWS, *fresh], __nodes__pve1__qemu=live)
    assert vmids(choose({"names": ["new11[0-3]", "web01"]}, api)) == [101, 110, 111, 112, 113]
    assert api.asked == ["/cluster/resources", "/nodes", "/nodes/pve1/qemu", "/nodes/pve1/lxc"]


def test_a_node_that_is_down_is_told() -> None:
    down = ProxmoxError("No route to host.", effect=Effect.NOT_EXECUTED, status=595)
    chosen = choose({"names": ["*"], "status": ["running"]}, reader(__nodes__pve2__qemu=down))
    assert vmids(chosen) == [101, 104]
    (warning,) = chosen.warnings
    assert "Node pve2 cannot be asked" in warning
    assert "VM 102 (web02), VM 103 (db01)" in warning
    with pytest.raises(Refused, match="Node pve2 cannot be asked"):
        choose({"nodes": ["pve2"], "status": ["running"]}, reader(__nodes__pve2__qemu=down))


def test_a_node_that_refuses_is_no_node_that_is_down() -> None:
    with pytest.raises(ProxmoxError, match="denied"):
        choose({"status": ["running"]}, reader(__nodes__pve2__qemu=ProxmoxError("denied", status=403)))


SILENT = [
    ProxmoxError("No route to host.", effect=Effect.NOT_EXECUTED, status=595),
    ProxmoxError("Connection timed out.", effect=Effect.AMBIGUOUS, status=596),
    ProxmoxError("No answer within 35 s.", effect=Effect.AMBIGUOUS),
]


@pytest.mark.parametrize("silent", SILENT, ids=str)
@pytest.mark.parametrize("path", ["__nodes__pve2__qemu", "__nodes__pve2__lxc"])
def test_a_node_that_gives_no_answer_is_told(silent: ProxmoxError, path: str) -> None:
    api = reader(**{path: silent})
    chosen = choose({"names": ["*"], "status": ["running"]}, api)
    assert vmids(chosen) == [101, 104]
    assert "VM 102 (web02), VM 103 (db01)" in chosen.warnings[0]
    assert api.asked.count("/cluster/resources") == 1


def answers(*each: Any) -> Callable[..., Any]:
    """Return one answer after the other; the last one for good."""
    left = list(each)
    return lambda **_query: left.pop(0) if len(left) > 1 else left[0]


STILL, MOVED = row(101, "web01", "pve1"), row(101, "web01", "pve2")
BOX = row(104, "box", kind="lxc")
ON_PVE2 = [{"vmid": 101, "name": "web01", "status": "running", "qmpstatus": "running"}]


WEB02 = row(102, "web02", "pve2")


@pytest.mark.parametrize(
    ("rest", "pve2", "asked"),
    [
        ([BOX], [ON_PVE2], 6),
        ([BOX, WEB02], [[*ON_PVE2, *LIVE["/nodes/pve2/qemu"]]], 5),
        ([BOX, WEB02], [LIVE["/nodes/pve2/qemu"], [*ON_PVE2, *LIVE["/nodes/pve2/qemu"]]], 8),
    ],
    ids=["where nobody else is", "where others are", "first in neither list"],
)
def test_a_guest_that_moves_meanwhile_is_met_where_it_is(
    rest: list[dict[str, object]], pve2: list[object], asked: int
) -> None:
    """By the cluster's list it was on pve1 still."""
    lists = {"__nodes__pve1__qemu": [], "__nodes__pve2__qemu": answers(*pve2)}
    api = reader(__cluster__resources=answers([STILL, *rest], [MOVED, *rest]), **lists)
    chosen = choose({"vmids": [row["vmid"] for row in [STILL, *rest]], "status": ["running"]}, api)
    assert [(guest.vmid, guest.node) for guest in chosen.guests] == [(101, "pve2"), (104, "pve1")]
    assert not chosen.warnings
    assert len(api.asked) == asked


def test_a_guest_in_the_lists_of_two_nodes_is_where_it_was_seen_last() -> None:
    running = LIVE["/nodes/pve1/qemu"]
    both = [STILL, row(102, "web02", "pve2")]
    api = reader(both, __nodes__pve2__qemu=[*ON_PVE2, *LIVE["/nodes/pve2/qemu"]], __nodes__pve1__qemu=running)
    options = {"names": ["*"], "status": ["running"]}
    assert [(guest.vmid, guest.node) for guest in choose(options, api).guests] == [(101, "pve2")]
    assert api.asked.count("/cluster/resources") == 1
    with pytest.raises(Refused, match="No guest is meant"):
        choose({**options, "nodes": ["pve[1]"], "vmids": [101]}, reader(both, __nodes__pve1__qemu=[]))


@pytest.mark.parametrize("nodes_say", [[], SILENT[1]], ids=["gone", "hung"])
def test_a_guest_that_nobody_can_tell_of_is_told(nodes_say: Any) -> None:
    after = [BOX] if nodes_say == [] else [MOVED, BOX]
    lists = {"__cluster__resources": answers([STILL, BOX], after), "__nodes__pve1__qemu": []}
    chosen = choose({"vmids": [101, 104], "status": ["running"]}, reader(**lists, __nodes__pve2__qemu=nodes_say))
    assert vmids(chosen) == [104]
    (warning,) = chosen.warnings
    assert "not among the guests that are meant: VM 101 (web01)." in warning
    lists = {"__cluster__resources": answers([STILL], after[:-1]), "__nodes__pve1__qemu": []}
    with pytest.raises(Refused, match=r"not among the guests that are meant: VM 101 \(web01\)"):
        choose({"vmids": [101], "status": ["running"]}, reader(**lists, __nodes__pve2__qemu=nodes_say))


@pytest.mark.parametrize("silent", SILENT, ids=str)
@pytest.mark.parametrize("many", [1, 10])
def test_fresh_guests_of_a_node_that_gives_no_answer_cost_the_others_nothing(silent: ProxmoxError, many: int) -> None:
    """Although it is online by what the cluster knows."""
    fresh = [row(vmid, None, "pve2") for vmid in range(110, 110 + many)]
    pages = {f"__nodes__pve2__qemu__{one['vmid']}__config": silent for one in fresh}
    api = reader([*ROWS, *fresh], __nodes__pve2__qemu=silent, **pages)
    assert vmids(choose({"names": ["web*"]}, api)) == [101, 102]


def test_only_what_is_shown_is_compared_with_what_there_is() -> None:
    names = [f"{letter * 6}-{number:03}" for number, letter in enumerate("abcdefghijklmnop")]
    rows = [row(101 + place, name) for place, name in enumerate(names)]
    with pytest.raises(Refused) as refused:
        choose({"names": [name[:-1] for name in names]}, reader(rows))
    assert f"{names[7][:-1]} and 8 more (did you mean {names[0]}" in refused.value.message
    assert names[7] in refused.value.message
    assert names[8] not in refused.value.message


def shown(**more: object) -> Mapping[str, Any]:
    """Return a result with a guest as it is by now."""
    guest = Guest(101, "qemu", "pve1", "web01", "running", "running", tags=("prod", "web"), pool="prod")
    return {"guest": replace(guest, **more).shown()}  # type: ignore[arg-type]


def again(options: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    return choose(options).selection.confirm(result)


def test_the_name_is_looked_at_again() -> None:
    assert again({"names": ["web*"]}, shown(name="web77")) is None
    with pytest.raises(Refused, match="VM 101 is called 'db' by now, which is not among names web"):
        again({"names": ["web*"]}, shown(name="db"))
    assert again({"vmids": [101]}, shown(name="db")) is None


@pytest.mark.parametrize(
    ("options", "changed", "says"),
    [
        ({"status": ["running"]}, {"status": "stopped", "qmpstatus": "stopped"}, "status running (now: stopped)"),
        ({"status": ["running"]}, {"qmpstatus": "paused"}, "status running (now: paused)"),
        ({"status": ["running"]}, {"qmpstatus": None}, None),
        ({"nodes": ["pve1"]}, {"node": "pve2"}, "nodes pve1 (now: pve2)"),
        ({"with_tags": ["prod"]}, {"tags": ("web",)}, "with_tags prod (now: web)"),
        ({"with_tags": ["prod"]}, {"tags": ()}, "with_tags prod (now: none)"),
        ({"with_tags": ["Prod"]}, {}, "with_tags Prod (now: prod, web)"),
        ({"vmids": [101], "template": False}, {"template": True}, "template false (now: true)"),
        ({"vmids": [101], "type": "qemu"}, {}, None),
        ({"pools": ["prod"]}, {"pool": None}, None),
        ({"names": ["web*"], "with_tags": ["web"], "nodes": ["pve1"], "status": ["running"]}, {}, None),
    ],
    ids=str,
)
def test_the_others_are_looked_at_again_too(
    options: dict[str, Any], changed: dict[str, object], says: str | None
) -> None:
    # Of the pool nobody but the cluster's list tells.
    selection = wanted(options)
    assert isinstance(selection, Selection)
    why = selection.confirm(shown(**changed))
    assert why == (f"Nothing was done to it, for it does not match {says}." if says else None)


def test_case_of_tags_means_as_little_as_before() -> None:
    api = reader(__cluster__options={})
    selection = choose({"with_tags": ["Prod"]}, api).selection
    assert selection.confirm(shown()) is None


def test_guests_are_called_by_kind_number_and_name() -> None:
    chosen = choose({"names": ["web01", "box"]})
    assert [label(guest) for guest in chosen.guests] == ["VM 101 (web01)", "CT 104 (box)"]
