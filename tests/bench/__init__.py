"""What a task costs, measured: this collection, community.proxmox and the bare API side by side. `make bench` writes docs/performance.md."""
