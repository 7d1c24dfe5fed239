"""What people are told of a long task: each pattern against a line that a server writes, and how often."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.progress import PATTERNS, Due, Progress, told, transferred

# Each from a recording (R), or as the source named beside the pattern prints it.
LINES: list[tuple[str, str]] = [
    ("transferred 6.3 MiB of 50.0 MiB (12.55%)", "13% (6.3 MiB of 50.0 MiB)"),  # R
    ("mirror-scsi1: transferred 1.5 GiB of 2.0 GiB (74.22%) in 0s", "scsi1, 74% (1.5 GiB of 2.0 GiB)"),  # R
    (
        "mirror-scsi0: transferred 50.0 MiB of 50.0 MiB (100.00%) in 1s, ready",
        "scsi0, 100% (50.0 MiB of 50.0 MiB)",
    ),  # R
    ("mirror-efidisk0: transferred 0.0 B of 528.0 KiB (0.00%) in 1h 2m 3s", "efidisk0, 0% (0.0 B of 528.0 KiB)"),
    (
        "2026-11-20 15:42:59 migration active, transferred 1.2 GiB of 4.0 GiB VM-state, 112.3 MiB/s",
        "1.2 GiB of 4.0 GiB, 112.3 MiB/s",
    ),
    (
        "2026-11-20 15:43:09 migration active, transferred 3.9 GiB of 4.0 GiB VM-state, 98.0 MiB/s, VM dirties lots of memory: "
        "120.0 MiB/s",
        "3.9 GiB of 4.0 GiB, 98.0 MiB/s",
    ),
    ("3.01 MiB in 0s", "3.01 MiB"),  # R
    ("1.20 GiB in 1m 5s", "1.20 GiB"),
    (
        "2026-11-20 15:42:59 1609564160 bytes (1.6 GB, 1.5 GiB) copied, 6 s, 268 MB/s",
        "1.5 GiB, 268 MB/s",
    ),
    ("1073741824 bytes (1.1 GB, 1.0 GiB) copied, 2.04512 s, 525 MB/s", "1.0 GiB, 525 MB/s"),
    ("2026-11-20 15:42:59 15:42:59   1.91G   rpool/data/vm-100-disk-0@__migration__", "1.9 GiB"),
    (
        "INFO:  26% (13.0 MiB of 50.0 MiB) in 3s, read: 4.3 MiB/s, write: 4.0 MiB/s",
        "26% (13.0 MiB of 50.0 MiB), 4.3 MiB/s",
    ),  # R
    (
        "INFO: 100% (50.0 MiB of 50.0 MiB) in 1m 13s, read: 640.0 KiB/s, write: 0 B/s",
        "100% (50.0 MiB of 50.0 MiB), 640.0 KiB/s",
    ),
    ("progress 1% (read 524288 bytes, duration 0 sec)", "1% (512.0 KiB)"),  # R
    (
        "progress 42% (read 14428405760 bytes, zeroes = 12% (1732247552 bytes), duration 61 sec)",
        "42% (13.4 GiB)",
    ),
    (" 32768K ........ ........ ........ ........ 10%  109M 5s", "10%, 109.0 MiB/s"),
    ("     0K ........ ........ ........ ........  5% 9.31M 1m2s", "5%, 9.3 MiB/s"),
    ("688128K ........ ........ ..                100%  110M=6.1s", "100%, 110.0 MiB/s"),
]

# Lines of the same logs that tell nothing of how far it is.
OTHERS = [
    "INFO: backup is sparse: 33.73 MiB (67%) total zero data",
    "2026-11-20 15:42:59 migration cachesize: 16.0 MiB",
    "2026-11-20 15:43:00 average migration speed: 176.8 MiB/s - downtime 23 ms",
    "completed saving the VM state in 0s, saved 88.80 MiB",
    "total bytes read 52428800, sparse bytes 35373056 (67.5%)",
    "space reduction due to 4K zero blocks 1.06%",
    "drive mirror is starting for drive-scsi0",
    "Length: 681574400 (650M) [application/octet-stream]",
    "",
]


@pytest.mark.parametrize(("line", "expected"), LINES, ids=[line for line, _expected in LINES])
def test_a_line_of_a_log(line: str, expected: str) -> None:
    assert told(Progress("move it", 65.0, [line, *OTHERS])) == f"move it: {expected}, 1 min 5 s"


def test_every_pattern_has_its_line() -> None:
    used = {next(pattern for pattern in PATTERNS if re.search(pattern, line)) for line, _expected in LINES}
    assert used == set(PATTERNS)


@pytest.mark.parametrize("line", OTHERS)
def test_other_lines_tell_nothing(line: str) -> None:
    assert told(Progress("move it", 5.9, [line])) == "move it: 5 s"


def test_the_newest_line_counts_and_the_disk_before_it_is_named() -> None:
    lines = [
        "create full clone of drive scsi0 (local-lvm:vm-100-disk-0)",
        "transferred 32.0 GiB of 32.0 GiB (100.00%)",
        "create full clone of drive virtio1 (local-lvm:vm-100-disk-1)",
        "transferred 0.0 B of 8.0 GiB (0.00%)",
        "transferred 2.0 GiB of 8.0 GiB (25.00%)",
    ]
    assert told(Progress("clone VM 100 to VM 101", 2.0, lines)) == (
        "clone VM 100 to VM 101: virtio1, 25% (2.0 GiB of 8.0 GiB), 2 s"
    )
    # Containers are copied by rsync, which tells nothing on the way.
    lines = ["create full clone of mountpoint rootfs (local:101/vm-101-disk-0.raw)"]
    assert told(Progress("clone CT 101 to CT 102", 2.0, lines)) == "clone CT 101 to CT 102: rootfs, 2 s"


def test_nothing_secret_and_nothing_that_moves_a_cursor() -> None:
    """Of the log only what a pattern names is shown; the rest is masked and made visible."""
    log = ["hunter2 \x1b[2J", "transferred 1.0 GiB of 2.0 GiB (50.00%) hunter2", "create full clone of drive hunter2 "]
    line = told(Progress("start \x1b[31mhunter2", 3.0, log), ["hunter2"])
    assert "hunter2" not in line
    assert line.isprintable()


def test_lines_that_are_made_to_hurt() -> None:
    began = time.process_time()
    for line in ("1" * 10**6, "." * 10**6, " " * 10**6, "9" * 250 + "K 5% 1M", "transferred 1.2.3 B of 4 B (....%)"):
        assert told(Progress("x", 3.0, [line] * 50)).startswith("x: ")
    assert time.process_time() - began < 2.0


def test_when_a_line_is_due() -> None:
    due = Due()
    said = [tenth / 10 for tenth in range(6000) if due.at(tenth / 10)]
    assert said[:4] == [2.0, 7.0, 12.0, 17.0]
    pauses = [later - earlier for earlier, later in itertools.pairwise(said)]
    assert max(pauses) == pytest.approx(30.0, abs=0.2)
    assert len(said) < 45


def test_bytes_that_are_sent_from_here() -> None:
    line = transferred(3 * 1024**3, 4 * 1024**3)
    assert told(Progress("upload a.iso", 61.0, (line,))) == "upload a.iso: 75% (3.0 GiB of 4.0 GiB), 1 min 1 s"
    assert transferred(0, 0) == "transferred 0.0 B of 0.0 B (100.00%)"
