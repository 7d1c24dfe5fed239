"""The same work by the bare API: what a script of somebody in a hurry would send, over one connection.

`python bare.py WORK JSON`, with the cluster in the environment, prints when the work began and ended. It is as fast as the
server can be used from Python: nothing is looked up that the options tell, nothing is compared, nothing is safe.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

POLL_SECONDS = 0.05


class Api:
    """One session with one cluster."""

    def __init__(self) -> None:
        env = os.environ
        self._base = f"https://{env['PROXMOX_HOST']}:{env['PROXMOX_PORT']}/api2/json"
        self._session = requests.Session()
        self._session.verify = env["PROXMOX_CA_PATH"]
        token = f"{env['PROXMOX_USER']}!{env['PROXMOX_TOKEN_ID']}={env['PROXMOX_TOKEN_SECRET']}"
        self._session.headers["Authorization"] = f"PVEAPIToken={token}"

    def ask(self, method: str, path: str, **params: Any) -> Any:
        """Return the data of an answer; an error ends the script."""
        where = {"params": params} if method in ("GET", "DELETE") else {"data": params}
        answer = self._session.request(method, self._base + path, timeout=60, **where)
        answer.raise_for_status()
        return answer.json()["data"]

    def do(self, method: str, path: str, **params: Any) -> str:
        """Send a write and wait for the task that it starts. Returns the task's exit status."""
        upid = self.ask(method, path, **params)
        node = upid.split(":")[1]
        while True:
            status = self.ask("GET", f"/nodes/{node}/tasks/{upid}/status")
            if status["status"] != "running":
                return str(status["exitstatus"])
            time.sleep(POLL_SECONDS)

    def find(self, by: str, value: Any) -> dict[str, Any]:
        """Return the guest's row."""
        rows = self.ask("GET", "/cluster/resources", type="vm")
        return next(row for row in rows if row.get(by) == value)


def no_change(by: str, guests: list[Any]) -> None:
    """Look whether each guest runs, as a task for one guest must that knows nothing of the others."""
    api = Api()
    for value in guests:
        row = api.find(by, value)
        assert api.ask("GET", f"/nodes/{row['node']}/qemu/{row['vmid']}/status/current")["status"] == "running"


def make(vmid: int) -> None:
    """Clone, configure, grow, start."""
    api = Api()
    guest = f"/nodes/pve1/qemu/{vmid}"
    assert (
        api.do("POST", "/nodes/pve1/qemu/9000/clone", newid=vmid, name=f"bench{vmid}", full=1, storage="shared") == "OK"
    )
    settings = {"cores": 4, "memory": 1024, "tags": "bench", "net0": "virtio,bridge=vmbr1"}
    assert api.do("POST", f"{guest}/config", **settings) == "OK"
    assert api.do("PUT", f"{guest}/resize", disk="scsi0", size="8G") == "OK"
    assert api.do("POST", f"{guest}/status/start") == "OK"


def look(vmid: int) -> None:
    """See that all that is so."""
    api = Api()
    api.find("vmid", vmid)
    config = api.ask("GET", f"/nodes/pve1/qemu/{vmid}/config")
    assert int(config["cores"]) == 4
    assert api.ask("GET", f"/nodes/pve1/qemu/{vmid}/status/current")["status"] == "running"


def start(vmid: int, exit_status: str = "OK") -> None:
    """Start one guest of the first node."""
    found = Api().do("POST", f"/nodes/pve1/qemu/{vmid}/status/start")
    assert exit_status in found, found


def snapshots(vmids: list[int], name: str) -> None:
    """Take one snapshot of each guest, one after another."""
    api = Api()
    rows = {row["vmid"]: row for row in api.ask("GET", "/cluster/resources", type="vm")}
    for vmid in vmids:
        assert api.do("POST", f"/nodes/{rows[vmid]['node']}/qemu/{vmid}/snapshot", snapname=name) == "OK"


def start_all(vmids: list[int], threads: int) -> None:
    """Start the guests, so many at a time; each thread has a connection of its own. Nothing looks whether they run already."""
    api = Api()
    rows = {row["vmid"]: row for row in api.ask("GET", "/cluster/resources", type="vm")}

    mine = threading.local()

    def one(vmid: int) -> None:
        own: Api = getattr(mine, "api", None) or Api()
        mine.api = own
        assert own.do("POST", f"/nodes/{rows[vmid]['node']}/qemu/{vmid}/status/start") == "OK"

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, vmids))


if __name__ == "__main__":
    work = {one.__name__: one for one in (no_change, make, look, start, snapshots, start_all)}[sys.argv[1]]
    options = json.loads(sys.argv[2])
    began = time.time()
    work(**options)
    print(json.dumps({"began": began, "ended": time.time()}))
