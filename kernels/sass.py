"""Instructions that a warp issues on its way through a kernel, counted in the disassembly of an NVIDIA GPU.

A kernel's listing (``nvdisasm -c -g -ndf``) is cut into basic blocks: a label begins one, a branch or an exit ends one.
A way leads from the first block to an exit along branches taken or not; its length is the number of instructions in its
blocks, each counted as often as the way passes, predicated ones too, since they are issued all the same. A call of a
subroutine outside the kernel (the slow path of a square root, for denormal numbers) counts as one instruction.

What a warp issues to write the values of its program is the length of the shortest way along which given events happen
in a given order: stores and loads of so many bytes by a function of the kernel, arms of branches that are taken.
Shortest, because it skips what is seldom needed: errors that are counted, the last warp's round. Whoever counts loop
bodies times their turns, and adds the rest, finds the same number.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)(.*?);")
_LABEL = re.compile(r"^(\.L_\w+|\$\w+):")
_LINE = re.compile(r'//## File "([^"]+)", line (\d+)')
_TARGET = re.compile(r"`\((\.L_\w+)\)")
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


@dataclass(frozen=True)
class Event:
    """Something that a way is told by.

    Attributes:
        name: of the event.
        file: how the path of the source file ends.
        lines: lines of that file.
        operation: "LDG" or "STG": such instructions from these lines, the amount being the bytes that a thread moves;
            None: any instruction from these lines, of amount 0.
    """

    name: str
    file: str
    lines: range
    operation: str | None = "STG"


@dataclass
class Block:
    """A basic block.

    Attributes:
        instructions: how many.
        events: (name, amount) of each, in their order, the same one of amount 0 once in a row.
        following: the blocks that may come next, by number.
        ends: the kernel may end here.
    """

    instructions: int = 0
    events: list[tuple[str, int]] = field(default_factory=list)
    following: list[int] = field(default_factory=list)
    ends: bool = False


def width_of(modifiers: str) -> int:
    """Bytes per thread of a memory instruction such as ``LDG.E.128``."""
    return next((_WIDTHS[part] for part in modifiers.split(".") if part in _WIDTHS), 4)


def _event_of(frames: Sequence[tuple[str, int]], operation: str, events: Sequence[Event]) -> Event | None:
    for file, line in frames:
        for event in events:
            if line in event.lines and file.endswith(event.file) and event.operation in (None, operation):
                return event
    return None


def basic_blocks(listing: str, events: Sequence[Event]) -> list[Block]:
    """The blocks of a listing; of the frames that an instruction is inlined through, the innermost event's counts."""
    blocks, labels, branches = [Block()], {}, []
    opened = True
    frames: list[tuple[str, int]] = []
    new_frames = False
    for text in listing.splitlines():
        if found := _LABEL.match(text):
            if blocks[-1].instructions or not opened:
                if opened:
                    blocks[-1].following.append(len(blocks))
                blocks.append(Block())
                opened = True
            labels[found[1]] = len(blocks) - 1
        elif found := _LINE.search(text):
            # several lines in a row are the frames of functions inlined into each other, the innermost first
            frames = frames if new_frames else []
            frames.append((found[1], int(found[2])))
            new_frames = True
        elif found := _INSTRUCTION.match(text):
            new_frames = False
            guard, name, operands = found.groups()
            if not opened:
                blocks.append(Block())
                opened = True
            block = blocks[-1]
            block.instructions += 1
            operation = name.split(".")[0]
            if event := _event_of(frames, operation, events):
                happened = (event.name, width_of(name) if event.operation else 0)
                if event.operation or block.events[-1:] != [happened]:
                    block.events.append(happened)
            if operation == "BRA" or (operation == "CALL" and _TARGET.search(operands)):  # a call within is a jump
                always = guard in (None, "@PT", "@UPT") and not re.match(r"\s*!?U?P\d|\s*UR", operands)
                branches.append((len(blocks) - 1, _TARGET.search(operands)[1]))
                if not always:
                    block.following.append(len(blocks))
                    blocks.append(Block())
                else:
                    opened = False
            elif operation in ("EXIT", "RET"):
                block.ends = operation == "EXIT"
                if guard is None:
                    opened = False
                else:
                    block.following.append(len(blocks))
                    blocks.append(Block())
    for block, target in branches:
        blocks[block].following.append(labels[target])
    return blocks


def shortest_way(blocks: list[Block], order: Sequence[tuple[str, int]]) -> int:
    """Instructions of the shortest way along which `order` happens, and no other event that has an amount.

    Args:
        blocks: `basic_blocks`.
        order: (name, amount) of events; an amount may be reached in several instructions and blocks. Events of amount 0
            may also happen where they are not in the order.

    Raises:
        LookupError: there is no such way.
    """

    def after(block: Block, position: int, so_far: int) -> tuple[int, int] | None:
        for name, amount in block.events:
            if position < len(order) and order[position][0] == name:
                so_far += amount
                if so_far > order[position][1]:
                    return None
                if so_far == order[position][1]:
                    position, so_far = position + 1, 0
            elif amount:
                return None
        return position, so_far

    queue, done = [(0, 0, 0, 0)], set()
    while queue:
        length, number, position, so_far = heapq.heappop(queue)
        if (number, position, so_far) in done:
            continue
        done.add((number, position, so_far))
        block = blocks[number]
        happened = after(block, position, so_far)
        if happened is None:
            continue
        length += block.instructions
        if block.ends and happened == (len(order), 0):
            return length
        for following in block.following:
            heapq.heappush(queue, (length, following, *happened))
    raise LookupError("No way through the code leads along these events in this order.")
