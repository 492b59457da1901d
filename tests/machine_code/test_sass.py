"""Counting in listings as cuobjdump prints them, and the loops of code whose blocks do not lie in order."""

import pytest

from mlabench.machine_code.loops import Instruction, natural_loops
from mlabench.machine_code.sass import read_listing

USAGE = " Function kernel:\n  REG:{registers} STACK:{stack} SHARED:0 LOCAL:0 CONSTANT[0]:600\n"


def listing(*lines: str, registers: int = 40, stack: int = 0) -> str:
    code = (f"        /*{16 * i:04x}*/   {line} ;    /* 0x0000000000007918 */\n" for i, line in enumerate(lines))
    return USAGE.format(registers=registers, stack=stack) + "".join(code)


def test_counts_and_usage() -> None:
    code = read_listing(
        listing(
            "IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28]",
            "STL.64 [R1+0x8], R2",
            "@!P0 LDL R4, [R1]",
            "@P1 LDGSTS.E.BYPASS.128 [R5], desc[UR4][R2.64]",
            "UTMALDG.2D [UR8], [UR4], desc[UR6]",
            "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24, gsb0",
            "WARPGROUP.DEPBAR.LE gsb0, 0x0",
            "UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8]",
            "EXIT",
            "NOP",
            registers=168,
            stack=24,
        )
    )
    assert (code.registers, code.stack_bytes, code.spill_stores, code.spill_loads) == (168, 24, 1, 1)
    assert code.matrix_instructions == {"HGMMA": 1, "UTCHMMA": 1}
    assert code.async_copies == {"LDGSTS": 1, "UTMALDG": 1}
    assert (code.matrix_waits, code.matrix_loops, code.loop_spills, code.instructions) == (1, 0, 0, 9)


def test_spills_of_the_innermost_matrix_loop_are_told_apart() -> None:
    code = read_listing(
        listing(
            "STL [R1], R2",  # 0x00: before the loops
            "LDL R2, [R1]",  # 0x10: in the outer loop
            "LDL R3, [R1]",  # 0x20: in the inner one
            "BRA.U UP0, 0x20",  # 0x30: a wait, which is a loop without matrix instructions
            "HMMA.16816.F32 R4, R8, R12, R4",  # 0x40
            "@P0 BRA 0x20",  # 0x50
            "@P1 BRA 0x10",  # 0x60
            "EXIT",
        )
    )
    assert (code.matrix_loops, code.loop_spills) == (1, 1)
    assert (code.spill_stores, code.spill_loads) == (1, 2)


def test_what_lies_between_a_loop_and_its_outlying_wait_is_not_in_the_loop() -> None:
    code = read_listing(
        listing(
            "HMMA.16816.F32 R4, R8, R12, R4",  # 0x00: the loop's head
            "@!P0 BRA 0x50",  # 0x10: not ready, wait behind the end
            "@P1 BRA 0x0",  # 0x20
            "STL [R1], R2",  # 0x30: after the loop
            "EXIT",  # 0x40
            "LDL R3, [R1]",  # 0x50: the wait
            "BRA 0x20",  # 0x60
        )
    )
    assert (code.matrix_loops, code.loop_spills) == (1, 1)
    assert code.spill_stores == 1


def test_code_that_nothing_reaches_makes_no_loop() -> None:
    code = [
        Instruction(0x00, "EXIT"),
        Instruction(0x10, "HMMA"),
        Instruction(0x20, "BRA", conditional=True, target=0x10),
    ]
    assert natural_loops(code) == []


def test_loops_nest() -> None:
    code = [
        Instruction(0x00, "MOV"),
        Instruction(0x10, "MOV"),
        Instruction(0x20, "BRA", conditional=True, target=0x10),
        Instruction(0x30, "BRA", conditional=True, target=0x00),
        Instruction(0x40, "EXIT"),
    ]
    assert sorted(map(sorted, natural_loops(code))) == [[0, 1, 2, 3], [1, 2]]


def test_what_is_no_listing_is_refused() -> None:
    with pytest.raises(ValueError, match="no machine code"):
        read_listing("cuobjdump fatal: no such file")
