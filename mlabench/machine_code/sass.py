"""What a cubin's machine code uses, counted from cuobjdump's listing."""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from mlabench.machine_code.loops import Instruction, natural_loops

ASYNC_COPIES = frozenset({"LDGSTS", "UTMALDG", "UTMASTG", "UTMAREDG", "UBLKCP", "UBLKRED"})
"""Copies between global and shared memory that pass no register: cp.async, and the tensor memory accelerator's."""

_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@\S+\s+)?([A-Z]\w*)((?:\.\w+)*)\s*([^;]*);")
_TARGET = re.compile(r"0x[0-9a-f]+")
_BRANCHES = ("BRA", "BSSY")


@dataclass(frozen=True, slots=True)
class MachineCode:
    """Counts of one kernel. Registers are a thread's; instructions are counted once each, padding left out.

    `spill_stores` and `spill_loads` are accesses to local memory; `loop_spills` those of them in the innermost loops
    that hold matrix instructions, of which there are `matrix_loops`. `matrix_waits` wait for warp-group products.
    """

    registers: int
    stack_bytes: int
    spill_stores: int
    spill_loads: int
    loop_spills: int
    matrix_loops: int
    matrix_waits: int
    matrix_instructions: dict[str, int]
    async_copies: dict[str, int]
    instructions: int


@lru_cache(maxsize=64)
def read_cubin(cubin: bytes) -> MachineCode:
    """Disassemble and count. Raises `subprocess.CalledProcessError` for what is no cubin.

    Remembers the last ones: configurations that differ in no constant share their code.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [_cuobjdump(), "-res-usage", "-sass", file.name]
        return read_listing(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def read_listing(text: str) -> MachineCode:
    """Count what `cuobjdump -res-usage -sass` printed for one kernel. Raises ValueError where it says no usage."""
    usage = re.search(r"REG:(\d+) STACK:(\d+)", text)
    code = [_instruction(match) for match in _LINE.finditer(text)]
    if usage is None or not code:
        raise ValueError("cuobjdump printed no machine code")
    opcodes = Counter(each.opcode for each in code)
    loops = _innermost_matrix_loops(code)
    return MachineCode(
        registers=int(usage[1]),
        stack_bytes=int(usage[2]),
        spill_stores=opcodes["STL"],
        spill_loads=opcodes["LDL"],
        loop_spills=sum(each.opcode in ("STL", "LDL") for loop in loops for each in loop),
        matrix_loops=len(loops),
        matrix_waits=sum(each.opcode == "WARPGROUP" and ".DEPBAR" in each.modifiers for each in code),
        matrix_instructions=_counts(opcodes, filter(_is_matrix, opcodes)),
        async_copies=_counts(opcodes, ASYNC_COPIES & opcodes.keys()),
        instructions=sum(count for opcode, count in opcodes.items() if opcode != "NOP"),
    )


def _is_matrix(opcode: str) -> bool:
    """HMMA and IMMA, the warp-group ones (HGMMA), and those on tensor memory (UTCHMMA, for tcgen05.mma)."""
    return opcode.endswith("MMA")


def _counts(opcodes: Counter[str], names: Iterable[str]) -> dict[str, int]:
    return {name: opcodes[name] for name in sorted(names)}


def _innermost_matrix_loops(code: Sequence[Instruction]) -> list[list[Instruction]]:
    """Loops with matrix instructions that hold no smaller one with any; waiting loops within them do not count."""
    loops = [loop for loop in natural_loops(code) if any(_is_matrix(code[i].opcode) for i in loop)]
    return [[code[i] for i in sorted(loop)] for loop in loops if not any(other < loop for other in loops)]


def _instruction(match: re.Match[str]) -> Instruction:
    address, predicate, opcode, modifiers, operands = match.groups()
    target = _TARGET.search(operands) if opcode in _BRANCHES else None
    return Instruction(
        int(address, 16),
        opcode,
        modifiers,
        # A branch can also name its condition among its operands: BRA.U UP0, 0x120
        conditional=bool(predicate) or "," in operands,
        target=int(target[0], 16) if target else None,
    )


@cache
def _cuobjdump() -> str:
    from triton import knobs

    path: str = knobs.nvidia.cuobjdump.path
    return path
