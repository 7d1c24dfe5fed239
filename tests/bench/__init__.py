"""What a task costs: this collection, community.proxmox and the bare API side by side. `make bench` writes docs/performance.md."""

import tests.conftest  # noqa: F401  the collection under its own name
