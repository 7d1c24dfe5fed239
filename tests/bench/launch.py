"""Run a command and write down what it took: `launch.py FILE SECONDS COMMAND...`, to be killed after so many seconds.

What a process had of memory counts from its fork, when it still had its parent's; so this small one is the parent, and not the
one that serves a cluster.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time


def main() -> int:
    """Write seconds, seconds of processor, and the most memory of a process in MiB; returns the command's exit code."""
    file, longest, *command = sys.argv[1:]
    began = time.perf_counter()
    child = subprocess.Popen(command)
    watchdog = threading.Timer(float(longest), child.kill)
    watchdog.daemon = True
    watchdog.start()
    # With a limit of its own it would look twenty times a second only.
    code = child.wait()
    seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(file, "w", encoding="utf-8") as out:
        json.dump(
            {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss // 1024},
            out,
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
