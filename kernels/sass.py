"""Instructions that a warp issues on its way through a kernel, counted in the disassembly of an NVIDIA GPU.

A kernel's listing (``nvdisasm -c -g -ndf``) is cut into basic blocks: a label begins one, a branch or an exit ends one.
A way leads from the first block to an exit along branches taken or not; its length is the number of instructions in its
blocks, each counted as often as the way passes, predicated ones too, since they are issued all the same. A call of a
subroutine outside the kernel (the slow path of a square root, for denormal numbers) counts as one instruction.

What a warp issues to write the values of its program is the length of the shortest way that stores these values with
the instructions of one function of the kernel, and with no others of the tiles. Shortest, because it skips what is
seldom needed: errors that are counted, the last warp's round. Whoever counts loop bodies times their turns, and adds
the rest, finds the same number.
"""

import heapq
import re
from dataclasses import dataclass, field

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)(.*?);")
_LABEL = re.compile(r"^(\.L_\w+|\$\w+):")
_LINE = re.compile(r'//## File "([^"]+)", line (\d+)')
_TARGET = re.compile(r"`\((\.L_\w+)\)")
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


@dataclass
class Block:
    """A basic block.

    Attributes:
        instructions: how many.
        stores: (line of the source, bytes per thread) of every global store.
        following: the blocks that may come next, by number.
        ends: the kernel may end here.
    """

    instructions: int = 0
    stores: list[tuple[int, int]] = field(default_factory=list)
    following: list[int] = field(default_factory=list)
    ends: bool = False


def width_of(modifiers: str) -> int:
    """Bytes per thread of a memory instruction such as ``LDG.E.128``."""
    return next((_WIDTHS[part] for part in modifiers.split(".") if part in _WIDTHS), 4)


def basic_blocks(listing: str, file: str) -> list[Block]:
    """The blocks of a listing; the lines of stores are those of a file whose path ends with `file`, others are 0."""
    blocks, labels, branches = [Block()], {}, []
    opened, line = True, 0
    new_lines = False
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
            frame = int(found[2]) if found[1].endswith(file) else 0
            line = line if new_lines and line else frame
            new_lines = True
        elif found := _INSTRUCTION.match(text):
            new_lines = False
            guard, name, operands = found.groups()
            if not opened:
                blocks.append(Block())
                opened = True
            block = blocks[-1]
            block.instructions += 1
            operation = name.split(".")[0]
            if operation == "STG":
                block.stores.append((line, width_of(name)))
            elif operation == "BRA" or (operation == "CALL" and _TARGET.search(operands)):  # a call within is a jump
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


def shortest_way(blocks: list[Block], lines: range, other_lines: range, bytes_stored: int) -> int | None:
    """Instructions of the shortest way that stores so many bytes per thread in `lines`, and none in `other_lines`.

    Returns:
        The number, or None where no way does.
    """

    def stored(block: Block) -> int | None:
        if any(line in other_lines for line, _ in block.stores):
            return None
        return sum(width for line, width in block.stores if line in lines)

    amounts = [stored(block) for block in blocks]
    queue, done = [(0, 0, 0)], set()
    while queue:
        length, number, so_far = heapq.heappop(queue)
        if (number, so_far) in done:
            continue
        done.add((number, so_far))
        amount = amounts[number]
        if amount is None or so_far + amount > bytes_stored:
            continue
        length += blocks[number].instructions
        so_far += amount
        if blocks[number].ends and so_far == bytes_stored:
            return length
        for following in blocks[number].following:
            heapq.heappush(queue, (length, following, so_far))
    return None
