"""The loops of a kernel's machine code, from its branches: blocks, dominators, natural loops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ENDS = ("EXIT", "RET")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `target` is the address that a branch can go to, or at which a divergent region ends."""

    address: int
    opcode: str
    modifiers: str = ""
    conditional: bool = False
    target: int | None = None


def natural_loops(code: Sequence[Instruction]) -> list[frozenset[int]]:
    """The instructions of each loop, by their place in `code`; back edges to one block make one loop.

    A wait that was moved behind the end of the kernel still belongs to the loop it returns to, and the code between
    them does not, which is why addresses alone would not do. Calls are taken to return.
    """
    starts = _block_starts(code)
    blocks = [range(start, end) for start, end in zip(starts, [*starts[1:], len(code)], strict=True)]
    successors = _successors(code, blocks)
    dominators = _dominators(successors)
    predecessors: list[list[int]] = [[] for _ in blocks]
    for block, nexts in enumerate(successors):
        for each in nexts:
            predecessors[each].append(block)
    loops: dict[int, set[int]] = {}
    for block, seen in dominators.items():
        for head in successors[block]:
            if seen >> head & 1:
                _collect(loops.setdefault(head, {head}), block, predecessors, dominators)
    return [frozenset(i for block in loop for i in blocks[block]) for loop in loops.values()]


def _block_starts(code: Sequence[Instruction]) -> list[int]:
    places = {instruction.address: i for i, instruction in enumerate(code)}
    starts = {0}
    for i, instruction in enumerate(code):
        if instruction.target in places:
            starts.add(places[instruction.target])
        if instruction.target is not None or instruction.opcode in _ENDS:
            starts.add(i + 1)
    return sorted(starts - {len(code)})


def _successors(code: Sequence[Instruction], blocks: Sequence[range]) -> list[list[int]]:
    block_at = {code[block.start].address: i for i, block in enumerate(blocks)}
    successors = []
    for i, block in enumerate(blocks):
        last = code[block.stop - 1]
        leaves = last.opcode in ("BRA", *_ENDS) and not last.conditional
        nexts = {i + 1} if not leaves and i + 1 < len(blocks) else set()
        if last.target in block_at:
            nexts.add(block_at[last.target])
        successors.append(sorted(nexts))
    return successors


def _dominators(successors: Sequence[Sequence[int]]) -> Mapping[int, int]:
    """For each block that can be reached, a bit mask of the blocks that every way to it passes, itself included."""
    dominators = {0: 1}
    changed = True
    while changed:
        changed = False
        for block in list(dominators):
            for each in successors[block]:
                mask = dominators[block] | 1 << each
                if each in dominators:
                    mask &= dominators[each]
                if dominators.get(each) != mask:
                    dominators[each] = mask
                    changed = True
    return dominators


def _collect(loop: set[int], block: int, predecessors: Sequence[Sequence[int]], reached: Mapping[int, int]) -> None:
    """Add to the loop the blocks from which `block` is reached without passing the loop's head."""
    waiting = [block]
    while waiting:
        each = waiting.pop()
        if each not in loop and each in reached:
            loop.add(each)
            waiting.extend(predecessors[each])
