"""Files on storages: what is wanted of one, and the body of an upload."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.content import Observed, Wanted, decide, plain_name, wanted
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call, Plan
from ansible_collections.keel.proxmox.plugins.module_utils.transport import UPLOAD_BLOCK, Upload, _body

from tests.simulator import Cluster, Request

DEFAULTS = {"storage": "local", "state": "present", "overwrite": "never", "validate_url_certs": True}
URL = "https://example.com/images/debian%2013.qcow2?x=1"


def asked(**given: Any) -> Wanted:
    return wanted({**DEFAULTS, **given})


@pytest.mark.parametrize(
    ("given", "volid"),
    [
        ({"url": URL}, "local:import/debian_13.qcow2"),
        ({"url": URL, "filename": "cloud.img"}, "local:iso/cloud.img"),
        ({"url": "https://example.com/a.IMG"}, "local:iso/a.IMG"),
        ({"url": "https://example.com/a.tar.zst"}, "local:vztmpl/a.tar.zst"),
        ({"url": "https://example.com/a.bin", "filename": "a.img", "content": "import"}, "local:import/a.img"),
        ({"template": "alpine_1_amd64.tar.xz"}, "local:vztmpl/alpine_1_amd64.tar.xz"),
        ({"filename": "hooks.yaml", "content": "snippets", "state": "absent"}, "local:snippets/hooks.yaml"),
    ],
)
def test_name_and_kind(given: dict[str, Any], volid: str) -> None:
    assert asked(**given).volid == volid


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "https://example.com/a.bin"}, "does not show by its name"),
        ({"url": "https://example.com/"}, "does not show by its name"),
        ({"url": URL, "content": "snippets"}, "takes no snippets"),
        ({"template": "a.tar.gz", "filename": "b.tar.gz"}, "keeps its name"),
        ({"state": "absent"}, "needs a filename"),
        ({"state": "absent", "url": URL}, "nothing to make it from"),
        ({"url": URL, "checksum": "crc32:12345678901234567890123456789012"}, "write sha256:DIGITS"),
        ({"src": "/nowhere/a.iso"}, "cannot be read"),
    ],
)
def test_what_cannot_be_meant(given: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        asked(**given)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a b(1).iso", "a_b_1_.iso"), ("../../etc/x.iso", "x.iso"), ("c:\\d\\e.iso", "e.iso"), ("ü.iso", "_.iso")],
)
def test_a_name_as_the_server_keeps_it(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tools.iso"
    path.write_bytes(b"x" * 1000)
    return path


def planned(want: Wanted, volume: dict[str, Any] | None, *done: Call, fetching: str | None = None) -> Plan:
    return decide(want, Observed("pve1", (), volume, fetching), done)


def verbs(plan: Plan) -> list[str]:
    return [call.summary.split()[0] for call in plan.calls]


def there(size: int, name: str = "iso/tools.iso") -> dict[str, Any]:
    return {"volid": f"local:{name}", "size": size}


@pytest.mark.parametrize(
    ("overwrite", "size", "expected"),
    [
        ("never", None, ["upload"]),
        ("never", 1000, []),
        ("changed", 1000, []),
        ("changed", 999, ["upload"]),
        ("always", 1000, ["upload"]),
    ],
)
def test_an_upload(file: Path, overwrite: str, size: int | None, expected: list[str]) -> None:
    want = asked(src=str(file), overwrite=overwrite)
    plan = planned(want, None if size is None else there(size))
    assert verbs(plan) == expected
    if expected:
        assert plan.calls[0].upload == str(file)
        assert verbs(planned(want, there(1000), plan.calls[0])) == [], "once in a run"


def test_another_file_of_that_name_stays(file: Path) -> None:
    with pytest.raises(Refused, match=r"is there with 999 bytes, and '.*tools.iso' has 1000; it was left"):
        planned(asked(src=str(file)), there(999))


@pytest.mark.parametrize(("overwrite", "expected"), [("never", []), ("changed", []), ("always", ["remove", "fetch"])])
def test_what_is_fetched_is_not_compared(overwrite: str, expected: list[str]) -> None:
    want = asked(url="https://example.com/tools.iso", overwrite=overwrite)
    assert verbs(planned(want, there(5))) == expected
    assert verbs(planned(want, None)) == ["fetch"]


def test_what_others_fetch_is_waited_for() -> None:
    plan = planned(asked(url="https://example.com/tools.iso"), None, fetching="UPID:x")
    assert plan.waiting == "the task that fetches local:iso/tools.iso already, UPID:x"


def test_a_password_in_an_address_is_not_shown() -> None:
    (call,) = planned(asked(url="https://me:secret@example.com/tools.iso"), None).calls
    assert "secret" not in str(call.shown())
    assert call.params["url"] == "https://me:secret@example.com/tools.iso"


@pytest.mark.parametrize("kind", ["backup", "images"])
def test_what_is_not_removed_here(kind: str) -> None:
    with pytest.raises(Refused, match="are not removed here"):
        planned(asked(filename="x", content=kind, state="absent"), {"volid": f"local:{kind}/x"})


@pytest.mark.parametrize("content", [b"", b"\r\n--x\r\n", b"\n\n", bytes(range(256)) * 5000])
def test_the_body_of_an_upload_arrives_whole(tmp_path: Path, content: bytes) -> None:
    """As the server parses it, and read in blocks that are smaller than the file."""
    path = tmp_path / "a.iso"
    path.write_bytes(content)
    pairs = [("content", "iso"), ("filename", "a.iso")]
    told: list[tuple[int, int]] = []
    with _body(pairs, Upload(str(path), lambda done, total: told.append((done, total)))) as (body, headers):
        blocks = list(body)
        assert told[-1] == (len(body), len(body))
        assert len(told) == len(blocks)
        assert len(body) == sum(map(len, blocks))
        assert max(map(len, blocks)) <= UPLOAD_BLOCK
    cluster = Cluster()
    path_there = "/api2/json/nodes/pve1/storage/local/upload"
    answer = cluster.handle(Request("POST", path_there, {**cluster.token_header(), **headers}, b"".join(blocks)))
    assert answer.status == 200, answer.reason
    cluster.clock.advance(60.0)
    assert cluster.storages.volumes["pve1", "local:iso/a.iso"].size == len(content)


def test_the_parts_of_an_upload_in_another_order_are_not_understood() -> None:
    cluster = Cluster()
    parts = [b'name="filename"; filename="a.iso"\r\n\r\nx', b'name="content"\r\n\r\niso']
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    headers = {**cluster.token_header(), "Content-Type": "multipart/form-data; boundary=b"}
    answer = cluster.handle(
        Request("POST", "/api2/json/nodes/pve1/storage/local/upload", headers, io.BytesIO(body).read())
    )
    assert (answer.status, answer.reason) == (500, "upload failed")
