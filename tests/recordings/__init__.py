"""Exchanges with real Proxmox VE 9.2 nodes, and the simulator held to them."""
