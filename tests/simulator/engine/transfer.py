# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that come to a storage: uploads, and downloads from a simulated web.

Sources: pve-storage, PVE/API2/Storage/Status.pm (upload, download_url), PVE/Storage.pm (extensions, normalize_content_filename,
assert_iso_content); pve-common, PVE/Tools.pm (download_file_from_url); pve-manager, PVE/API2/Nodes.pm (aplinfo, apl_download,
query_url_metadata).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .clock import Sleep, Steps
from .http import bad_parameter, die
from .model import MIB, Storage, Volume
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

_TEMPLATE = re.compile(r"[^/]+\.(?:tar(?!\.)|tar\.(?:gz|xz|zst|bz2))", re.IGNORECASE)
_EXTENSIONS = {
    "iso": re.compile(r"[^/]+\.(?:iso|img)", re.IGNORECASE),
    "vztmpl": _TEMPLATE,
    "import": re.compile(r"[a-zA-Z0-9\-.+=_]+\.(?:ova|qcow2|raw|vmdk)"),
}
_WRONG_NAME = {"import": "invalid filename or wrong extension"}
_DOWNLOAD_BYTES_PER_SECOND = 100 * MIB
_COPY_BYTES_PER_SECOND = 500 * MIB


@dataclass(frozen=True)
class WebFile:
    """What a web server has at an address; a large file is described, not held. :param seed: files of one seed are the same."""

    size: int
    seed: str

    def digest(self, algorithm: str) -> str:
        """The checksum that a download of it has."""
        return hashlib.new(algorithm, self.seed.encode()).hexdigest()


def put_on_web(cluster: Cluster, url: str, size: int, seed: str = "") -> WebFile:
    """Let the nodes find a file at an address."""
    cluster.web[url] = WebFile(size, seed or url)
    return cluster.web[url]


def _plain(filename: str) -> str:
    """The name as it is on the storage (normalize_content_filename)."""
    return re.sub(r"[^a-zA-Z0-9_.-]", "_", re.sub(r"^.*[/\\]", "", filename))


def _name(kind: str, filename: str) -> str:
    name = _plain(filename)
    if kind not in _EXTENSIONS:
        raise bad_parameter(content=f"upload content type '{kind}' not allowed")
    if _EXTENSIONS[kind].fullmatch(name) is None:
        raise bad_parameter(filename=_WRONG_NAME.get(kind, "wrong file extension"))
    return name


def _format(kind: str, name: str) -> str:
    """The format as a list of the content has it (PVE/Storage/Plugin.pm, get_subdir_files)."""
    extension = name.rsplit(".", 1)[-1]
    if kind == "iso":
        return "iso"
    return f"t{extension}" if kind == "vztmpl" and extension != "tar" else extension


def _put(cluster: Cluster, storage: Storage, node: str, kind: str, name: str, size: int) -> None:
    volid = f"{storage.name}:{kind}/{name}"
    place = cluster.storages.place(storage, node)
    cluster.storages.volumes[place, volid] = Volume(
        volid, size, _format(kind, name), kind, None, int(cluster.now), used=size
    )


def upload(call: Call) -> str:
    """POST /nodes/{node}/storage/{storage}/upload: the task runs on the node that received the file."""
    cluster, params = call.cluster, call.params
    storage = cluster.storages.enabled(params["storage"], call.node)
    if not storage.has_files:
        raise die(f"can't upload to storage type '{storage.type}'")
    kind = params["content"]
    if "_size" not in call.extra:
        raise die("missing temporary file name")
    name = _name(kind, params["filename"])
    if kind not in storage.content:
        raise die(f"storage '{storage.name}' does not support '{kind}' content")
    temporary, size = str(params.get("tmpfilename", "")), int(call.extra["_size"])
    content = str(call.extra["_content"]).encode("latin-1")

    def body(task: Task) -> Steps[None]:
        target = cluster.storages.path(f"{storage.name}:{kind}/{name}")
        task.log(f"starting file import from: {temporary}")
        algorithm = params.get("checksum-algorithm")
        if algorithm:
            found, expected = hashlib.new(algorithm, content).hexdigest(), params["checksum"]
            if found != expected.lower():
                task.log("calculating checksum...")
                raise die(f"checksum mismatch: got '{found}' != expect '{expected}'")
            task.log("calculating checksum...OK, checksum verified")
        if kind in ("iso", "import") and content.startswith(b"QFI\xfb") and not name.endswith("qcow2"):
            raise die(f"qcow2 file format detected in '{temporary}', which is not allowed here")
        task.log(f"target node: {call.node}")
        task.log(f"target file: {target}")
        task.log(f"file size is: {size}")
        task.log(f"command: cp -- {temporary} {target}")
        yield Sleep(0.1 + size / _COPY_BYTES_PER_SECOND)
        if cluster.storages.used(storage, call.node) + size > storage.size:
            raise die("import failed: cp: error writing '" + target + "': No space left on device")
        _put(cluster, storage, call.node, kind, name, size)
        task.log("finished file import successfully")

    return cluster.tasks.start(call.entry, "imgcopy", "", call.authid, body)


def download_url(call: Call) -> str:
    """POST /nodes/{node}/storage/{storage}/download-url."""
    cluster, params = call.cluster, call.params
    storage = cluster.storages.enabled(params["storage"], call.node)
    if not storage.has_files:
        raise die(f"can't upload to storage type '{storage.type}'")
    kind, url = params["content"], params["url"]
    if kind not in storage.content:
        raise die(f"storage '{storage.name}' is not configured for content-type '{kind}'")
    if "compression" in params:
        raise bad_parameter(compression="the simulator decompresses nothing")
    name = _name(kind, params["filename"])
    wanted = (params["checksum-algorithm"], params["checksum"]) if "checksum" in params else None
    return call.task("download", name, lambda task: _download(task, call, storage, kind, name, url, wanted))


def _download(
    task: Task, call: Call, storage: Storage, kind: str, name: str, url: str, wanted: tuple[str, str] | None
) -> Steps[None]:
    """download_file_from_url; wget tells of its progress in dots of a mebibyte, 32 a line."""
    cluster = call.cluster
    volid = f"{storage.name}:{kind}/{name}"
    target = cluster.storages.path(volid)
    task.log(f"downloading {url} to {target}")
    if cluster.storages.find(call.node, volid) is not None:
        if wanted is None:
            raise die(f"refusing to override existing file '{target}'")
        there = cluster.downloaded.get((cluster.storages.place(storage, call.node), volid))
        found = there.digest(wanted[0]) if there is not None else hashlib.new(wanted[0], volid.encode()).hexdigest()
        if found == wanted[1].lower():
            task.log("calculating checksum of existing file...OK, got correct file already, no need to download")
            return
        task.log("calculating checksum of existing file...")
        raise die(f"checksum mismatch: got '{found}' != expect '{wanted[1]}', aborting")
    task.log(f"--{cluster.stamp()}--  {url}")
    host = url.split("/")[2]
    yield Sleep(0.1)
    source = cluster.web.get(url)
    if source is None:
        if not any(known.split("/")[2] == host for known in cluster.web):
            raise die(f"download failed: Connecting to {host}... failed: Connection refused.")
        task.log(f"Resolving {host.split(':')[0]}... 192.0.2.10")
        task.log(f"Connecting to {host}... connected.")
        task.log("HTTP request sent, awaiting response... 404 Not Found")
        task.log(f"{cluster.stamp()} ERROR 404: Not Found.")
        raise die("download failed: exit code 8")
    task.log(f"Connecting to {host}... connected.")
    task.log("HTTP request sent, awaiting response... 200 OK")
    task.log(f"Length: {source.size} ({_short(source.size)}) [application/octet-stream]")
    task.log(f"Saving to: '{target}.tmp_dwnl.{task.pid}'")
    step = 32 * MIB
    for done in range(0, source.size, step):
        got = min(source.size, done + step)
        yield Sleep((got - done) / _DOWNLOAD_BYTES_PER_SECOND)
        share = got * 100 // source.size
        dots = " ".join(["........"] * 4)
        left = (source.size - got) // _DOWNLOAD_BYTES_PER_SECOND
        task.log(f"{done // 1024:6d}K {dots} {share:2d}%  100M {left}s")
    task.log(f"{cluster.stamp()} (100 MB/s) - '{target}.tmp_dwnl.{task.pid}' saved [{source.size}/{source.size}]")
    if wanted is not None:
        found = source.digest(wanted[0])
        if found != wanted[1].lower():
            task.log("calculating checksum...")
            raise die(f"checksum mismatch: got '{found}' != expect '{wanted[1]}'")
        task.log("calculating checksum...OK, checksum verified")
    if cluster.storages.used(storage, call.node) + source.size > storage.size:
        raise die("download failed: No space left on device")
    _put(cluster, storage, call.node, kind, name, source.size)
    cluster.downloaded[cluster.storages.place(storage, call.node), volid] = source
    task.log(f"download of '{url}' to '{target}' finished")


def _short(size: int) -> str:
    return f"{size // MIB}M" if size >= MIB else f"{size // 1024}K"


def url_metadata(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/query-url-metadata."""
    url = call.params["url"]
    source = call.cluster.web.get(url)
    if source is None:
        raise die("invalid server response: '404 Not Found'")
    return {"filename": url.rsplit("/", 1)[-1], "size": source.size, "mimetype": "application/octet-stream"}


_APPLIANCES = (("debian-13-standard", "13.1-2", "debian-13"), ("alpine-3.22-default", "20250617", "alpine"))


def appliances(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/aplinfo: the list of container templates that can be downloaded."""
    return [
        {
            "architecture": "amd64",
            "headline": f"LXC default image for {os}",
            "description": f"LXC default image for {os} ({version})",
            "infopage": "https://linuxcontainers.org",
            "location": f"http://download.proxmox.com/images/system/{package}_{version}_amd64.tar.zst",
            "maintainer": "Proxmox Support Team <support@proxmox.com>",
            "os": os,
            "package": package,
            "section": "system",
            "sha512sum": hashlib.sha512(f"{package}_{version}".encode()).hexdigest(),
            "source": "http://download.proxmox.com/images",
            "template": f"{package}_{version}_amd64.tar.zst",
            "type": "lxc",
            "version": version,
        }
        for package, version, os in _APPLIANCES
    ]


def download_appliance(call: Call) -> str:
    """POST /nodes/{node}/aplinfo: the checksum is required, and that of the list."""
    template = call.params["template"]
    appliance = next((row for row in appliances(call) if row["template"] == template), None)
    if appliance is None:
        raise bad_parameter(template="no such template")
    storage = call.cluster.storages.enabled(call.params["storage"], call.node)
    if "vztmpl" not in storage.content:
        raise die(f"storage '{storage.name}' does not support templates")
    url = str(appliance["location"])
    put_on_web(call.cluster, url, 120 * MIB, f"{appliance['package']}_{appliance['version']}")
    wanted = ("sha512", str(appliance["sha512sum"]))
    return call.task("download", template, lambda task: _download(task, call, storage, "vztmpl", template, url, wanted))


ROUTES = {
    ("GET", "/nodes/{node}/aplinfo"): appliances,
    ("POST", "/nodes/{node}/aplinfo"): download_appliance,
    ("GET", "/nodes/{node}/query-url-metadata"): url_metadata,
    ("POST", "/nodes/{node}/storage/{storage}/upload"): upload,
    ("POST", "/nodes/{node}/storage/{storage}/download-url"): download_url,
}
