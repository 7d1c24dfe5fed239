# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files on storages: images to install from, to import, and templates of containers are there, or are not.

A file is uploaded from here, or fetched by a node from a web server or from the list of container templates. The server
overwrites with an upload whatever was there, and never with what it fetches (PVE/API2/Storage/Status.pm; PVE/Tools.pm,
download_file_from_url).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from .errors import Effect, ProxmoxError, Refused
from .guests import check_node
from .plan import Call, Feature, Plan, Reader
from .wire import is_true, measurement, parse_upid, words

Row = Mapping[str, Any]

# What may be removed here, and by which extension a name tells what it is (PVE/Storage.pm, *_EXT_RE).
KINDS = ("iso", "vztmpl", "import", "snippets")
_EXTENSIONS = (
    ("iso", re.compile(r".+\.(iso|img)", re.IGNORECASE)),
    ("vztmpl", re.compile(r".+\.tar(\.(gz|xz|zst|bz2))?", re.IGNORECASE)),
    ("import", re.compile(r".+\.(ova|qcow2|raw|vmdk)")),
)
_ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")


@dataclass(frozen=True)
class Wanted:
    """:param node: None for whichever node has the storage. :param kind: None for every kind of file.

    :param filename: as it is on the storage, None where the files are only looked at.
    :param src: path of a local file, and :param size: its bytes. :param url: where a node fetches it.
    :param template: of the list of container templates.
    :param checksum: algorithm and digits. :param overwrite: never, changed or always.
    """

    storage: str
    state: str
    node: str | None = None
    kind: str | None = None
    filename: str | None = None
    src: str | None = None
    size: int | None = None
    url: str | None = None
    template: str | None = None
    checksum: tuple[str, str] | None = None
    overwrite: str = "never"
    validate_url_certs: bool = True

    @property
    def volid(self) -> str:
        return f"{self.storage}:{self.kind}/{self.filename}"


@dataclass(frozen=True)
class Observed:
    """:param node: that is asked. :param contents: what the storage holds, of the wanted kind.

    :param volume: the wanted file among it. :param fetching: UPID of a task that fetches it already.
    """

    node: str
    contents: Sequence[Row]
    volume: Row | None = None
    fetching: str | None = None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for; the name and the kind of the file follow from each other where they are left out."""
    src, url, template = (options.get(name) for name in ("src", "url", "template"))
    name = options.get("filename") or template or (os.path.basename(src) if src else None)
    if name is None and url is not None:
        name = unquote(urlsplit(url).path).rpartition("/")[2]
    kind = options.get("content") or ("vztmpl" if template else None)
    if name is not None:
        name = plain_name(name)
        kind = kind or next((kind for kind, pattern in _EXTENSIONS if pattern.fullmatch(name)), None)
        if kind is None:
            raise Refused(f"What '{name}' is does not show by its name; say so in content.")
    if (src or url or template) and kind == "snippets":
        raise Refused(
            "The server takes no snippets by its API; copy them to a node, into the directory of the storage."
        )
    if template is not None and (name, kind) != (template, "vztmpl"):
        raise Refused("A template of the server's list keeps its name, and is of content vztmpl.")
    if options["state"] == "absent" and name is None:
        raise Refused("state=absent needs a filename.")
    if options["state"] == "absent" and (src or url or template):
        raise Refused("state=absent needs a filename, and nothing to make it from.")
    return Wanted(
        options["storage"],
        options["state"],
        options.get("node"),
        kind,
        name,
        src,
        _size(src) if src is not None else None,
        url,
        template,
        _checksum(options.get("checksum")),
        options["overwrite"],
        options["validate_url_certs"],
    )


def plain_name(name: str) -> str:
    """Return the name that the server gives a file (PVE/Storage.pm, normalize_content_filename)."""
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", re.sub(r".*[/\\]", "", name))


def _size(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise Refused(f"src '{path}' cannot be read on the host that runs this task: {error.strerror}.") from error


def _checksum(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    algorithm, _colon, digits = text.partition(":")
    if algorithm.lower() not in _ALGORITHMS or re.fullmatch(r"[0-9a-fA-F]{32,128}", digits.strip()) is None:
        raise Refused(f"checksum '{text}' is none; write sha256:DIGITS, or another of {', '.join(_ALGORITHMS)}.")
    return algorithm.lower(), digits.strip().lower()


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return what the storage holds: one request where the node is known, and two more for a file that is to be fetched."""
    node = previous.node if previous is not None else want.node or _node(want, reader)
    contents, volume = _contents(want, reader, node)
    fetching = None
    if volume is None and want.state == "present" and (want.url or want.template):
        running = reader.get(f"/nodes/{node}/tasks", source="active", typefilter="download")
        upids = [upid for row in running if (upid := parse_upid(row["upid"])) is not None]
        fetching = next((upid.text for upid in upids if upid.id == want.filename), None)
        if fetching is None:
            # Such a task may have ended between the two looks.
            contents, volume = _contents(want, reader, node)
    return Observed(node, contents, volume, fetching)


def _contents(want: Wanted, reader: Reader, node: str) -> tuple[Sequence[Row], Row | None]:
    """Return what the storage holds, and the wanted file among it."""
    query = {"content": want.kind} if want.kind is not None else {}
    try:
        contents = reader.get(f"/nodes/{node}/storage/{want.storage}/content", **query)
    except ProxmoxError as error:
        if error.effect is Effect.ABSENT:
            check_node(reader, node)
        raise
    return contents, next((row for row in contents if row["volid"] == want.volid), None) if want.filename else None


def _node(want: Wanted, reader: Reader) -> str:
    """Return a node that has the storage; Refused where it is another storage on each."""
    rows = [row for row in reader.get("/cluster/resources", type="storage") if row.get("storage") == want.storage]
    if not rows:
        raise Refused(
            f"There is no storage '{want.storage}' on any node, or the credentials may not see it (Datastore.Audit on "
            f"/storage/{want.storage})."
        )
    up = sorted(str(row["node"]) for row in rows if row.get("status") == "available") or [str(rows[0]["node"])]
    if len(rows) > 1 and not is_true(rows[0].get("shared")):
        nodes = ", ".join(sorted(row["node"] for row in rows))
        raise Refused(
            f"Each of the nodes {nodes} has a storage '{want.storage}' of its own; say in node which is meant."
        )
    kinds = words(rows[0].get("content"))
    if want.kind is not None and want.state == "present" and want.kind not in kinds:
        raise Refused(f"Storage '{want.storage}' is not made for {want.kind}; it takes {', '.join(kinds)}.")
    return up[0]


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return what brings the file there or away."""
    volume = observed.volume
    before = {"volume": _shown(want, volume)}
    if want.filename is None:
        return Plan({}, {})
    if want.state == "absent":
        return Plan(before, {"volume": None}, (_remove(want, observed),) if volume is not None else ())
    made = any(call.method == "POST" for call in done)
    after = {"volume": _shown(want, {"volid": want.volid, "size": want.size})}
    if volume is not None and (made or not _is_replaced(want, volume)):
        return Plan(before, before)
    calls = []
    if volume is not None and want.src is None:
        calls.append(_remove(want, observed))
    calls.append(_bring(want, observed))
    waiting = f"the task that fetches {want.volid} already, {observed.fetching}" if observed.fetching else None
    return Plan(before, after, calls, waiting)


def _is_replaced(want: Wanted, volume: Row) -> bool:
    """Tell whether the file that is there is not the wanted one; raises Refused where nobody said that it may be replaced."""
    if want.overwrite == "always":
        return bool(want.src or want.url or want.template)
    there = measurement(volume.get("size"))
    if want.size is None or there is None or int(there) == want.size:
        return False
    if want.overwrite == "never":
        raise Refused(
            f"{want.volid} is there with {int(there)} bytes, and '{want.src}' has {want.size}; it was left as it is. Set "
            "overwrite: changed to replace it, or choose another filename."
        )
    return True


def _bring(want: Wanted, observed: Observed) -> Call:
    node, path = observed.node, f"/nodes/{observed.node}/storage/{want.storage}"
    # In the order that the server wants of an upload.
    params: dict[str, object] = {"content": want.kind}
    if want.checksum is not None:
        params |= {"checksum-algorithm": want.checksum[0], "checksum": want.checksum[1]}
    params["filename"] = want.filename
    if want.src is not None:
        return Call("POST", f"{path}/upload", params, f"upload {want.src} as {want.volid}", upload=want.src)
    if want.template is not None:
        params = {"storage": want.storage, "template": want.template}
        return Call("POST", f"/nodes/{node}/aplinfo", params, f"fetch the template {want.volid} on node {node}")
    if want.url is not None:
        params["url"] = want.url
        if not want.validate_url_certs:
            params["verify-certificates"] = False
        parts = urlsplit(want.url)
        host = parts.netloc.rpartition("@")[2]
        return Call(
            "POST",
            f"{path}/download-url",
            params,
            f"fetch {want.volid} from {parts.scheme}://{host}{parts.path} on node {node}",
            # It may hold a password.
            secret=frozenset({"url"} if host != parts.netloc else ()),
        )
    raise Refused(f"{want.volid} is not there, and nothing is said to make it from: src, url or template.")


def _remove(want: Wanted, observed: Observed) -> Call:
    if want.kind not in KINDS:
        raise Refused(f"Files of content {want.kind} are not removed here, only {', '.join(KINDS)}.")
    path = f"/nodes/{observed.node}/storage/{want.storage}/content/{quote(want.volid, safe=':/')}"
    return Call("DELETE", path, {}, f"remove {want.volid}")


def _shown(want: Wanted, row: Row | None) -> dict[str, object] | None:
    """Return the file as it is compared: of one that is fetched nobody knows the size beforehand."""
    if row is None:
        return None
    return {"volid": row["volid"], **({"size": row.get("size")} if want.size is not None else {})}


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the file, and without a filename everything that the storage holds."""
    if want.filename is not None:
        return {"node": observed.node, "volume": dict(observed.volume) if observed.volume is not None else None}
    rows = sorted(observed.contents, key=lambda row: str(row["volid"]))
    return {"node": observed.node, "contents": [dict(row) for row in rows]}


FEATURE = Feature(wanted, observe, decide, result)
