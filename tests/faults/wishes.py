"""What is wanted of a guest, as a model: the plays that bring it about, and what the cluster lacks of it.

Judged by the cluster's own state and by parsing of its own, not by what the collection says or reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulator import Cluster
from tests.simulator.engine.model import Guest

from .races import Play


@dataclass
class Wish:
    """What is wanted of one guest; what is not named may be as it likes.

    :param vmid: None where the guest is known by its name alone, as a clone is.
    :param source: of the clone that makes it. :param options: of proxmox_vm_config.
    :param snapshots: whether there is to be one of this name.
    """

    vmid: int | None
    name: str
    source: str | None = None
    node: str | None = None
    power: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    snapshots: dict[str, bool] = field(default_factory=dict)

    @property
    def ref(self) -> dict[str, Any]:
        """How options name it."""
        return {"name": self.name} if self.vmid is None else {"vmid": self.vmid}

    def want(self, options: Mapping[str, Any]) -> None:
        """Want this too; of devices key by key."""
        for key, value in options.items():
            if isinstance(value, Mapping):
                devices = self.options.setdefault(key, {})
                for device, keys in value.items():
                    devices[device] = {**devices.get(device, {}), **keys}
            else:
                self.options[key] = value

    def plays(self) -> Iterator[Play]:
        """Yield everything that it takes."""
        if self.source is not None:
            yield "proxmox_vm_clone", {"source": self.source, "name": self.name, "full": True}
        if self.node is not None:
            yield self.moved(self.node)
        if self.options:
            yield self.configured(self.options)
        for name, there in self.snapshots.items():
            yield self.snapshot(name, there)
        if self.power is not None:
            yield self.powered(self.power)

    def moved(self, node: str) -> Play:
        return "proxmox_migrate", {**self.ref, "target_node": node}

    def configured(self, options: Mapping[str, Any]) -> Play:
        return "proxmox_vm_config", {**self.ref, **options}

    def snapshot(self, name: str, there: bool) -> Play:
        return "proxmox_snapshot", {**self.ref, "snapname": name, "state": "present" if there else "absent"}

    def powered(self, state: str, **more: Any) -> Play:
        return "proxmox_vm_power", {**self.ref, "state": state, **more}

    def lacks(self, cluster: Cluster) -> Iterator[str]:
        """Yield what is not as it is wanted."""
        found = [
            guest
            for vmid, guest in cluster.guests.items()
            if (guest.config.get("name") == self.name if self.vmid is None else vmid == self.vmid)
        ]
        if len(found) != 1:
            yield f"{self.name} is there {len(found)} times"
            return
        for text in self._lacks(found[0]):
            yield f"{self.name} ({found[0].vmid}): {text}"

    def _lacks(self, guest: Guest) -> Iterator[str]:
        if self.node not in (None, guest.node):
            yield f"it is on {guest.node}, not on {self.node}"
        state = "stopped" if guest.power is None else {"running": "started"}.get(guest.power.qmp, guest.power.qmp)
        if self.power not in (None, state):
            yield f"it is {state}, not {self.power}"
        if "lock" in guest.config:
            yield f"it is locked ({guest.config['lock']})"
        for name, there in self.snapshots.items():
            if (name in guest.snapshots) is not there:
                yield f"snapshot {name} is {'not ' * there}there"
        config = guest.effective()
        for key, value in self.options.items():
            if isinstance(value, Mapping):
                for device, keys in value.items():
                    yield from _device(device, keys, config.get(device))
            elif meant(key, config.get(key)) != meant(key, str(int(value)) if isinstance(value, bool) else value):
                yield f"{key} is {config.get(key)!r}, not {value!r}"


DEFAULTS = {"cores": "1", "onboot": "0", "description": "", "tags": ""}


def meant(key: str, value: Any) -> object:
    """Return what an option means."""
    value = DEFAULTS.get(key) if value is None else value
    if key == "tags":
        return frozenset(value if isinstance(value, list) else str(value).split(";")) - {""}
    return str(value).strip()


def _device(device: str, wanted: Mapping[str, Any], text: str | None) -> Iterator[str]:
    """Yield which keys of a network interface or disk are not as they are wanted."""
    if text is None:
        yield f"{device} is not there"
        return
    first, *rest = text.split(",")
    found = {"storage": first.partition(":")[0], **dict(part.split("=", 1) for part in rest)}
    for key, value in wanted.items():
        want = f"{value}G" if key == "size" else str(int(value) if isinstance(value, bool) else value)
        if found.get(key, "0" if value is False else None) != want:
            yield f"{key} of {device} is {found.get(key)}, not {want}"
