"""How a simulated answer is held to a recorded one.

Status, reason phrase and error texts must be the same. Of a body, the keys, the types of the values and the texts must be; numbers
count where they are facts (ids, sizes, flags) and not measurements. Volatile parts of texts (UPIDs, digests, times, MACs, UUIDs,
process ids) are compared by their shape.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

Json = Any

_SHAPES = [
    (r"UPID:([^:]+):[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:([^:]*):([^:]*):([^:]*):", r"UPID:\1:<pid>:\2:\3:\4:"),
    (r"\b[0-9A-F]{2}(?::[0-9A-F]{2}){5}\b", "<mac>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b[0-9a-f]{40}\b", "<digest>"),
    (r"\bctime=\d+", "ctime=<time>"),
    (r"\b\d{4}-\d\d-\d\d\b", "<date>"),
    (r"\b\d\d:\d\d:\d\d\b", "<clock>"),
    (r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z][a-z] [ \d]\d <clock> \d{4}", "<date>"),
    (r"\.conf\.tmp\.\d+", ".conf.tmp.<pid>"),
    (r"\b\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d\b", "<date>"),
    (r"pveupload-[0-9a-f]+", "pveupload-<id>"),
    (r"vzdumptmp\d+", "vzdumptmp<pid>"),
    (r"password: \$5\$\S+", "password: <hash>"),
    (r"transferred \S+ \S+ of (\S+ \S+) \(\S+%\)", r"transferred <part> of \1"),
]
# Texts that describe the machine below, or are secrets.
_MACHINE = """CSRFPreventionToken ticket ssl_fingerprint flags model mhz family kversion version release sysname pveversion repoid
    kernel-version kernel-release pbs-library-version clustername ip address cidr gateway mode loadavg hvm"""
_ANY_TEXT = frozenset(_MACHINE.split())
# Numbers that are facts. Every other number is a measurement or a time: its type counts only.
_FACTS = """vmid template cores cpus managed delete n agent serial propagate quorate local nodes online running vmstate shared cdrom
    is_attached is_cloudinit is_tpmstate is_unused is_vmstate replicate size enabled active maxmem maxdisk maxcpu failback
    max_relocate max_restart level NeedTFA has-dbus-vmstate"""
_EXACT_NUMBERS = frozenset(_FACTS.split())
_NODE_MEASURES = frozenset(["maxmem", "maxdisk", "maxcpu"])
# By what the rows of a list are told apart.
_ROW_KEYS = ("vmid", "key", "id", "storage", "iface", "poolid", "volid", "name", "sid", "path")


def shape(text: str) -> str:
    """A text without its volatile parts."""
    for pattern, replacement in _SHAPES:
        text = re.sub(pattern, replacement, text)
    command = re.match(r"(INFO: starting new backup job: vzdump \d+) (--.*)", text)
    # Perl gives the options in any order.
    return f"{command[1]} {sorted(command[2].split())}" if command else text


def differences(
    recorded: Mapping[str, Json], status: int, reason: str, body: Json, raw: bytes, seconds: float
) -> list[str]:
    """In what a simulated answer differs from the recorded one (`response` of an exchange); empty when they agree."""
    found: list[str] = []
    if status != recorded["status"]:
        found.append(f"status {status}, recorded {recorded['status']}")
    if shape(reason) != shape(recorded["reason"]):
        found.append(f"reason {reason!r}, recorded {recorded['reason']!r}")
    # What the server waits for is part of its behaviour: 3 s for 401, 10 s for a lock, 30 s for a dead node.
    took = recorded["elapsed_s"]
    if (took > 2.5 and not 0.7 * took <= seconds <= 1.3 * took) or (took <= 2.5 < seconds):
        found.append(f"took {seconds:.1f} s, recorded {took:.1f} s")
    if recorded.get("json") is not None:
        found += _compare(recorded["json"], body, "body")
    elif recorded["headers"].get("Content-Type") == "text/plain":
        found += [] if raw and body is None else ["no plain text came"]
    elif raw:
        found.append(f"a body came, none was recorded: {raw[:100]!r}")
    return found


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "null" if value is None else type(value).__name__


def _compare(recorded: Json, simulated: Json, path: str) -> list[str]:
    if _kind(recorded) != _kind(simulated):
        return [f"{path}: {_kind(simulated)} {_short(simulated)}, recorded {_kind(recorded)} {_short(recorded)}"]
    if isinstance(recorded, dict):
        return _compare_objects(recorded, simulated, path)
    if isinstance(recorded, list):
        return _compare_lists(recorded, simulated, path)
    name = path.rpartition(".")[2].partition("[")[0]
    if isinstance(recorded, str):
        if name == "content" and sorted(recorded.split(",")) == sorted(simulated.split(",")):
            # A set, in any order.
            return []
        if name in _ANY_TEXT or shape(recorded) == shape(simulated):
            return []
        return [f"{path}: {_short(simulated)}, recorded {_short(recorded)}"]
    exact = name in _EXACT_NUMBERS or isinstance(recorded, bool)
    return [f"{path}: {simulated}, recorded {recorded}"] if exact and recorded != simulated else []


def _compare_objects(recorded: dict[str, Json], simulated: dict[str, Json], path: str) -> list[str]:
    found = [f"{path}.{key}: missing" for key in recorded if key not in simulated]
    found += [f"{path}.{key}: not recorded ({_short(simulated[key])})" for key in simulated if key not in recorded]
    node = recorded.get("type") == "node" or "maxmem" not in recorded
    for key in recorded.keys() & simulated.keys():
        if (node and key in _NODE_MEASURES) or (key == "size" and recorded.get("content") == "backup"):
            found += [] if _kind(recorded[key]) == _kind(simulated[key]) else [f"{path}.{key}: {_kind(simulated[key])}"]
        else:
            found += _compare(recorded[key], simulated[key], f"{path}.{key}")
    return found


def _compare_lists(recorded: list[Json], simulated: list[Json], path: str) -> list[str]:
    if recorded and all(isinstance(row, dict) and set(row) == {"n", "t"} for row in recorded):
        return _compare_logs(recorded, simulated, path)
    rows = [row for row in (*recorded, *simulated) if isinstance(row, dict)]
    if rows and all("upid" in row for row in rows):
        return _compare_tasks(recorded, simulated, path)
    key = next((key for key in _ROW_KEYS if rows and all(key in row for row in rows)), None)
    if key is None:
        # Without a name, in any order.
        if len(recorded) != len(simulated):
            return [f"{path}: {len(simulated)} entries, recorded {len(recorded)}"]
        pairs = zip(sorted(recorded, key=repr), sorted(simulated, key=repr), strict=True)
        return [line for number, (old, new) in enumerate(pairs) for line in _compare(old, new, f"{path}[{number}]")]
    old, new = ({row[key]: row for row in part} for part in (recorded, simulated))
    found = [f"{path}[{name}]: missing" for name in old.keys() - new.keys()]
    found += [f"{path}[{name}]: not recorded" for name in new.keys() - old.keys()]
    return found + [
        line for name in old.keys() & new.keys() for line in _compare(old[name], new[name], f"{path}[{name}]")
    ]


def _compare_logs(recorded: list[Json], simulated: list[Json], path: str) -> list[str]:
    """A task's log, line by line; of measured figures the shape, of progress that there is some."""
    if not simulated or any(set(row) != {"n", "t"} for row in simulated):
        return [f"{path}: no log lines"]
    old, new = (_collapsed([_figures(shape(row["t"])) for row in part]) for part in (recorded, simulated))
    found = [f"{path}: {line}" for line in difflib.ndiff(old, new) if line[0] in "-+"]
    if recorded[0]["n"] != simulated[0]["n"]:
        found.append(f"{path}: begins with line {simulated[0]['n']}, recorded {recorded[0]['n']}")
    return found


_FIGURES = [
    (r"\b\d+(?:\.\d+)? ?(?:[KMGT]i?)?B(?:/s)?\b", "<size>"),
    (r"\bdowntime \d+ ms", "downtime <time>"),
    (r" *\d+(?:\.\d+)? ?%", "<percent>"),
    (r"\bin \d+ ?s(?:econds)?\b", "in <time>"),
    (r"(CFG: size:|total bytes read|sparse bytes) \d+", r"\1 <number>"),
    (r"<part> of \S+(?: \S+)?", "<part>"),
]


def _figures(line: str) -> str:
    """A line of a log without what was measured."""
    for pattern, replacement in _FIGURES:
        line = re.sub(pattern, replacement, line)
    return line


def _collapsed(lines: list[str]) -> list[str]:
    """Lines that repeat, as progress does, once."""
    return [line for number, line in enumerate(lines) if number == 0 or line != lines[number - 1]]


def _compare_tasks(recorded: list[Json], simulated: list[Json], path: str) -> list[str]:
    """Of lists of tasks, the newest first: what each row holds. The run of the recordings made more of them than are here."""
    if bool(recorded) != bool(simulated):
        return [f"{path}: {len(simulated)} tasks, recorded {len(recorded)}"]
    shapes = [{key: _kind(value) for key, value in row.items() if key != "saved"} for row in recorded]
    found = []
    for number, row in enumerate(simulated):
        mine = {key: _kind(value) for key, value in row.items() if key != "saved"}
        if mine not in shapes:
            found.append(f"{path}[{number}]: {mine}")
    newest = ("type", "id", "status", "user", "tokenid")
    old, new = ({key: row.get(key) for key in newest} for row in (recorded[0], simulated[0]))
    return found + ([] if old == new else [f"{path}[0]: {new}, recorded {old}"])


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) < 160 else text[:157] + "..."
