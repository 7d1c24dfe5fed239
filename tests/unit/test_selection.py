"""Which guests are meant: each selector, all of them together, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError, Refused
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


def test_the_name_is_looked_at_again() -> None:
    selection = wanted({"names": ["web*"]})
    assert isinstance(selection, Selection)
    selection.confirm({"guest": row(101, "web77")})
    with pytest.raises(Refused, match="VM 101 is called 'db' by now, which is not among names web"):
        selection.confirm({"guest": row(101, "db")})
    other = wanted({"vmids": [101]})
    assert isinstance(other, Selection)
    other.confirm({"guest": row(101, "db")})


def test_guests_are_called_by_kind_number_and_name() -> None:
    chosen = choose({"names": ["web01", "box"]})
    assert [label(guest) for guest in chosen.guests] == ["VM 101 (web01)", "CT 104 (box)"]
