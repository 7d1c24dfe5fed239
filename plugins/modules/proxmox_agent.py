#!/usr/bin/python
# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxmox_agent
short_description: Run programs, read and write files and more inside VMs of Proxmox VE, through their guest agent
version_added: 0.1.0
author:
  - Contributors to keel.proxmox (@keel)
description:
  - Does something inside a VM through its QEMU guest agent, without a network and without credentials of the guest.
  - The agent is waited for, as long as O(timeout) allows, so that a VM may still be starting.
  - O(action=exec) takes and returns what M(ansible.builtin.command) does, so that C(changed_when) and C(failed_when) work as they
    do there.
notes:
  - The VM must run, its option C(agent) must be enabled, and C(qemu-guest-agent) must run in it.
  - Needs the privilege C(VM.Audit) on C(/vms/VMID), and there C(VM.GuestAgent.Audit) for O(action=ping), O(action=info) and
    O(action=interfaces), C(VM.GuestAgent.FileRead) for O(action=read), C(VM.GuestAgent.FileRead) and C(VM.GuestAgent.FileWrite)
    for O(action=write), C(VM.GuestAgent.Audit) and C(VM.GuestAgent.FileSystemMgmt) for O(action=freeze), O(action=thaw) and
    O(action=trim), and C(VM.GuestAgent.Unrestricted) for O(action=exec) and O(action=password). C(VM.GuestAgent.Unrestricted)
    stands for all of them. Before Proxmox VE 9 it is C(VM.Monitor).
  - An agent that does not answer is asked every five seconds, for each question holds one of the three workers of the node for
    three.
  - O(action=exec), O(action=trim) and O(action=password) act on every run and always report a change. Whether the agent
    still works on a trim can be seen, so one whose answer was lost is waited for.
  - A program is never started twice in one run. When the answer to its start is lost, for example because the agent has taken
    longer than the five seconds that the server waits for it, the module fails and says that nobody knows whether it was started.
  - The agent tells the end of a program once and then forgets it. When that answer is lost, or the agent is restarted meanwhile,
    the module fails and says that the program was started and that its end is not known.
  - For containers there is O(action=interfaces) only.
options:
  action:
    description:
      - V(ping) waits until the agent answers.
      - V(info) returns what the agent tells of itself, of the operating system and of the network.
      - V(interfaces) waits until the guest has an address that others can use, and returns its network interfaces.
      - V(exec) runs a program and waits for its end. No shell is involved; name one in O(argv) where you need it.
      - V(read) returns the content of a file.
      - V(write) means a file has this content. It is compared first. Owner and mode of a file that is there stay as they are.
      - V(freeze) means the file systems are frozen, for a copy of the disks that is consistent. Until they are thawed, nothing
        inside can write, and the agent refuses everything but V(ping), V(thaw) and V(freeze).
      - V(thaw) means the file systems are not frozen.
      - V(trim) tells the disks which blocks are not in use any more.
      - V(password) sets the password of a user of the guest. It cannot be compared, so it is set on every run.
    type: str
    required: true
    choices: [ping, info, interfaces, exec, read, write, freeze, thaw, trim, password]
  cmd:
    description:
      - Program and arguments in one text, split as a POSIX shell would, for O(action=exec). One of O(cmd) and O(argv) is needed.
      - Backslashes are special in it; use O(argv) for paths of Windows.
    type: str
  argv:
    description: Program and arguments as a list, for O(action=exec).
    type: list
    elements: str
  stdin:
    description: Text that the program reads from its standard input, at most 64 KiB, for O(action=exec). Left out, there is none.
    type: str
  stdin_add_newline:
    description: Whether a line break is added to O(stdin). Left out, it is.
    type: bool
  creates:
    description:
      - Path of a file or directory inside the guest, for O(action=exec). If it is there, the program is not run.
      - The agent is asked to open it, so it must be readable by the agent; patterns are not known.
    type: str
  removes:
    description: Path of a file or directory inside the guest, for O(action=exec). If it is not there, the program is not run.
    type: str
  path:
    description: Absolute path of the file inside the guest, needed for O(action=read) and O(action=write).
    type: str
  max_bytes:
    description: How much of the file is read at most, for O(action=read). Left out, 16 MiB, which is all that the server reads.
    type: int
  content:
    description:
      - What the file is to hold, at most 60 KiB, needed for O(action=write). Neither the result nor the diff shows it.
    type: str
  encoding:
    description: What O(content) is, V(text), written as UTF-8, or V(base64), as O(action=read) returns it. Left out, V(text).
    type: str
    choices: [text, base64]
  username:
    description: User of the guest whose password is set, needed for O(action=password).
    type: str
  password:
    description: The password, 5 to 1024 characters, needed for O(action=password).
    type: str
  crypted:
    description: Whether O(password) is a hash as C(crypt) makes it. Left out, it is the password itself.
    type: bool
  preferred_networks:
    description:
      - Networks whose addresses go before others in RV(ip) and RV(addresses), the earlier in the list the better, for
        O(action=interfaces) and O(action=info).
      - Left out, addresses of network cards that Proxmox VE gave to the guest go before others, and IPv4 before IPv6.
    type: list
    elements: str
  refused_networks:
    description: Networks whose addresses are never used, such as those of containers inside the guest. Left out, none.
    type: list
    elements: str
extends_documentation_fragment:
  - keel.proxmox.auth
  - keel.proxmox.guest
  - keel.proxmox.wait
  - keel.proxmox.attributes
seealso:
  - module: keel.proxmox.proxmox_vm_power
  - module: ansible.builtin.command
  - module: ansible.builtin.slurp
"""

EXAMPLES = r"""
- name: Wait until the guest has an address
  keel.proxmox.proxmox_agent:
    name: web01
    action: interfaces
    preferred_networks: [10.0.0.0/8]
    timeout: 120
  register: web01

- name: Run a program that only looks
  keel.proxmox.proxmox_agent:
    name: web01
    action: exec
    cmd: cat /etc/hostname
  register: hostname
  changed_when: false

- name: Use a shell, once
  keel.proxmox.proxmox_agent:
    name: web01
    action: exec
    argv: [sh, -c, "exit 3"]
    creates: /srv/ready
  register: setup
  failed_when: setup.rc not in [0, 3]

- name: Write a file
  keel.proxmox.proxmox_agent:
    name: web01
    action: write
    path: /etc/motd
    content: |
      Welcome.

- name: Read it
  keel.proxmox.proxmox_agent:
    name: web01
    action: read
    path: /etc/motd
  register: motd

- name: Show it
  ansible.builtin.debug:
    msg: "{{ motd.content | ansible.builtin.b64decode }}"

- name: Set a password
  keel.proxmox.proxmox_agent:
    name: web01
    action: password
    username: root
    password: "{{ root_password }}"
"""

RETURN = r"""
guest:
  description: The guest as observed, before a program was run.
  returned: always, unless it was not found
  type: dict
  contains:
    vmid:
      description: VMID.
      type: int
    name:
      description: Name.
      type: str
    node:
      description: Node on which it is.
      type: str
    type:
      description: V(qemu) or V(lxc).
      type: str
    status:
      description: V(running) or V(stopped). A paused guest is running, a hibernated one stopped.
      type: str
    qmpstatus:
      description: State by QEMU's own account, for example V(running), V(paused) or V(prelaunch).
      type: str
    lock:
      description: Lock, V(null) where there is none.
      type: str
    template:
      description: Whether it is a template.
      type: bool
    tags:
      description: Tags.
      type: list
      elements: str
    pool:
      description: Pool, where the guest had to be searched in the cluster; otherwise V(null).
      type: str
    ha_state:
      description: State in high availability, V(null) where that does not manage the guest.
      type: str
    uptime:
      description: Seconds since it was started.
      type: int
  sample: {vmid: 101, name: web01, node: pve1, type: qemu, status: running, qmpstatus: running, lock: null, template: false,
    tags: [prod], pool: null, ha_state: null, uptime: 3}
agent:
  description: The agent.
  returned: for O(action=ping) and O(action=info)
  type: dict
  contains:
    answers:
      description: Whether it answers; it may not where O(wait=false).
      type: bool
    version:
      description: Its version, V(null) where it does not answer.
      type: str
    frozen:
      description: Whether the file systems are frozen.
      type: bool
    commands:
      description: Commands that it knows and that are not disabled.
      type: list
      elements: str
  sample: {answers: true, version: "10.0.2", frozen: false, commands: [guest-exec, guest-ping]}
os:
  description: The operating system, as the agent tells it.
  returned: for O(action=info)
  type: dict
  sample: {id: debian, pretty_name: Debian GNU/Linux 13 (trixie), kernel_release: 6.12.117+deb13-cloud-amd64}
hostname:
  description: The name that the guest gives itself.
  returned: for O(action=info)
  type: str
  sample: web01
ip:
  description: The best of RV(addresses), V(null) where there is none.
  returned: for O(action=interfaces) and O(action=info)
  type: str
  sample: 10.20.0.102
addresses:
  description: Addresses of the guest that others can use, the best one first; not those of loopback interfaces and single links.
  returned: for O(action=interfaces) and O(action=info)
  type: list
  elements: str
  sample: [10.20.0.102]
interfaces:
  description: Network interfaces, as the agent of a VM or the node of a container tells them.
  returned: for O(action=interfaces) and O(action=info)
  type: list
  elements: dict
  sample: [{name: eth0, hardware-address: "bc:24:11:00:00:01", ip-addresses: [{ip-address: 10.20.0.102, prefix: 16}]}]
cmd:
  description: Program and arguments.
  returned: for O(action=exec)
  type: list
  elements: str
  sample: [cat, /etc/hostname]
rc:
  description:
    - Exit code of the program; for one that was ended by a signal, its number below zero. Anything but V(0) is a failure.
    - V(0) where the program was not run, in check mode or because of O(creates) or O(removes). V(null) where its end was not
      waited for.
  returned: for O(action=exec)
  type: int
  sample: 0
signal:
  description: Signal that has ended the program, V(null) where none has.
  returned: for O(action=exec)
  type: int
pid:
  description: Process id inside the guest, V(null) where the program was not run.
  returned: for O(action=exec)
  type: int
  sample: 703
stdout:
  description: What the program has written to its standard output, as UTF-8, without line breaks at the end.
  returned: for O(action=exec)
  type: str
  sample: web01
stdout_lines:
  description: RV(stdout) line by line.
  returned: for O(action=exec)
  type: list
  elements: str
  sample: [web01]
stdout_truncated:
  description: Whether the agent has cut it off, after 16 MiB.
  returned: for O(action=exec)
  type: bool
stderr:
  description: What the program has written to its standard error output.
  returned: for O(action=exec)
  type: str
  sample: ""
stderr_lines:
  description: RV(stderr) line by line.
  returned: for O(action=exec)
  type: list
  elements: str
  sample: []
stderr_truncated:
  description: Whether the agent has cut it off, after 16 MiB.
  returned: for O(action=exec)
  type: bool
path:
  description: Path of the file.
  returned: for O(action=read) and O(action=write)
  type: str
  sample: /etc/motd
content:
  description: What the file holds, in base64; C(b64decode) makes a text of it.
  returned: for O(action=read)
  type: str
  sample: V2VsY29tZS4K
encoding:
  description: Always V(base64).
  returned: for O(action=read)
  type: str
  sample: base64
size:
  description: Number of bytes of RV(content), or of the file that was written, in check mode of the one that is there.
  returned: for O(action=read) and O(action=write)
  type: int
  sample: 9
truncated:
  description: Whether the file may be longer than O(max_bytes).
  returned: for O(action=read)
  type: bool
checksum:
  description: SHA-256 of the file, in check mode of the one that is there; V(null) where it is not there or longer.
  returned: for O(action=write)
  type: str
  sample: 4ff54d2bdb0bb73a0f5a8e5e5ffa4e3f1ba7b5ea9a23a4a0d3a3c7d2ecaffdae
frozen:
  description: Whether the file systems are frozen.
  returned: for O(action=freeze) and O(action=thaw)
  type: bool
  sample: true
trimmed:
  description: What was trimmed of each file system, as the agent tells it. Empty where its answer was lost.
  returned: for O(action=trim)
  type: list
  elements: dict
  sample: [{path: /, trimmed: 536870912, minimum: 0}]
calls:
  description: The writing requests that were made, in check mode those that would be made.
  returned: always
  type: list
  elements: dict
  contains:
    method:
      description: HTTP method.
      type: str
    path:
      description: Path below C(/api2/json).
      type: str
    params:
      description: Parameters, secrets masked.
      type: dict
    summary:
      description: What the call does.
      type: str
  sample: [{method: POST, path: /nodes/pve1/qemu/101/agent/fstrim, params: {}, summary: trim the file systems of VM 101}]
tasks:
  description: Always empty; the server runs no tasks for it.
  returned: always
  type: list
  elements: str
  sample: []
status:
  description: HTTP status of the request that failed.
  returned: when a request failed
  type: int
  sample: 403
request:
  description: Method and path of the request that failed.
  returned: when a request failed
  type: str
  sample: POST /nodes/pve1/qemu/101/agent/exec
upid:
  description: UPID of the task of the server that failed or that still runs.
  returned: when such a task is the reason of the failure
  type: str
log:
  description: Last lines of the log of that task.
  returned: when such a task is the reason of the failure
  type: list
  elements: str
"""

from ..module_utils.agent_actions import FEATURE, OPTIONS
from ..module_utils.argspec import GUEST, NETWORKS, ONE_GUEST, WAIT
from ..module_utils.module import run

ARGUMENTS = {
    **GUEST,
    **WAIT,
    **NETWORKS,
    "action": {"type": "str", "required": True, "choices": list(OPTIONS)},
    "cmd": {"type": "str"},
    "argv": {"type": "list", "elements": "str"},
    "stdin": {"type": "str"},
    "stdin_add_newline": {"type": "bool"},
    "creates": {"type": "str"},
    "removes": {"type": "str"},
    "path": {"type": "str"},
    "max_bytes": {"type": "int"},
    "content": {"type": "str"},
    "encoding": {"type": "str", "choices": ["text", "base64"]},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "crypted": {"type": "bool"},
}

CONSTRAINTS = {"required_one_of": ONE_GUEST}


def main() -> None:
    run(FEATURE, ARGUMENTS, **CONSTRAINTS)


if __name__ == "__main__":
    main()
