# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Which guests are meant, where there are several."""

    DOCUMENTATION = r"""
options:
  vmids:
    description:
      - VMIDs of the guests, instead of O(vmid) or O(name). Each of them must exist, or nothing is done and the task fails.
      - O(vmids), O(names), O(with_tags), O(pools), O(nodes) and O(status) each choose guests, O(type) and O(template) narrow the
        choice down. If several are given, a guest must match all of them. Every guest that does is brought to what the task wants.
      - An empty list means no guest, never all.
    type: list
    elements: int
  names:
    description:
      - Names of the guests, or patterns of names. A guest matches by any of them.
      - A pattern is as in the shell, with V(*), V(?) and V([...]), or after a V(~) a regular expression that is matched from the
        beginning, as in the inventory. Case matters. A name that is no pattern must exist, or nothing is done and the task fails.
      - The cluster learns names late, up to ten seconds and more after a guest was renamed. A guest that does not have the name
        any more when its turn comes is not touched; it fails, for it may be another one than was meant.
    type: list
    elements: str
  with_tags:
    description:
      - Tags, or patterns of tags as for O(names). A guest matches if it has all of them.
      - Case means nothing unless the tag style of the datacenter says otherwise.
    type: list
    elements: str
    aliases: [tags]
  pools:
    description:
      - Pools, or patterns of their names as for O(names). A guest matches if it is in any of them.
      - Needs C(Pool.Audit) on C(/pool/POOL), or nobody is seen to be in it.
    type: list
    elements: str
  nodes:
    description: Nodes, or patterns of their names as for O(names). A guest matches if it is on any of them.
    type: list
    elements: str
  status:
    description:
      - States such as V(running), V(stopped) and V(paused). A guest matches if it is in any of them.
      - Unlike in the inventory, it is the state of this moment, for which every node that has guests in question is asked. Guests
        of nodes that cannot be asked or do not answer are not meant, and a warning tells so. A hibernated guest is V(stopped).
    type: list
    elements: str
  template:
    description:
      - Whether the guests are templates (V(true)) or not (V(false)).
      - Left out, templates are not meant, unless by O(vmids).
    type: bool
  parallel:
    description:
      - How many guests are worked on at a time, V(1) to V(64), where there are several. With V(1), one after the other, by VMID.
      - What has begun is brought to its end although another guest fails.
    type: int
    default: 8
  parallel_per_node:
    description:
      - How many of them may be on, or move to, the same node.
      - Left out, the module decides what a node bears; the notes tell.
    type: int
  max_guests:
    description:
      - How many guests there may be. If the choice is larger, nothing is done and the task fails.
      - Left out, there is no limit.
    type: int
    aliases: [max]
  allow_none:
    description:
      - Whether it is fine if no guest matches, or if there is no guest of a VMID or name that was given. The task then changes
        nothing for those that are not there.
      - Without it, the task fails.
    type: bool
    default: false
notes:
  - With O(vmids), O(names), O(with_tags), O(pools), O(nodes) or O(status), each guest is planned and worked on by itself, and
    returned in RV(ignore:results). If some fail, the others are worked on all the same; then the task fails.
  - A guest that does not match O(nodes), O(with_tags), O(status) or O(template) any more when its turn comes, because somebody
    has moved, stopped or changed it meanwhile, is not touched; it is unchanged, and a warning tells so.
  - A node that cannot be reached or does not answer is given up with the first guest for which it was waited in vain. The
    others that are on it fail without being asked for.
  - O(timeout) then counts for each guest, from when its turn comes.
"""
