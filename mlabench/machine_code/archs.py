"""The architectures that kernels are compiled for, the device assumed for each, and how much of a kernel fits an SM.

Source: CUDA C++ Programming Guide, "Compute Capabilities" (technical specifications per compute capability) for the
limits; the CUDA toolkit's occupancy calculator for the units in which registers and shared memory are handed out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlabench.errors import UsageError, near_names
from mlabench.units import format_exact_bytes

WARP_SIZE = 32
REGISTER_UNIT = 256
"""Registers of a warp are handed out in multiples of this."""
REGISTER_FILES = 4
"""An SM's registers lie in as many files, and a warp's all in one of them."""
SHARED_UNIT_BYTES = 128
RESERVED_SHARED_BYTES = 1024
"""Shared memory of each CTA that the system keeps for itself, from compute capability 8.0 on."""


@dataclass(frozen=True, slots=True)
class Arch:
    """An architecture, and the device that stands for it. `shared_bytes_a_cta` is what a kernel can ask for."""

    name: str
    capability: int
    device: str
    num_sms: int
    shared_bytes_a_cta: int
    shared_bytes_an_sm: int
    tensor_columns: int = 0
    registers: int = 65_536
    max_warps: int = 64
    max_ctas: int = 32


ARCHS: tuple[Arch, ...] = (
    Arch("sm_80", 80, "NVIDIA A100", 108, 163 * 1024, 164 * 1024),
    Arch("sm_90", 90, "NVIDIA H200", 132, 227 * 1024, 228 * 1024),
    Arch("sm_100", 100, "NVIDIA B200", 148, 227 * 1024, 228 * 1024, tensor_columns=512),
)


def find_archs(names: Sequence[str]) -> tuple[Arch, ...]:
    """The architectures of these names, all without any, in the table's order. Raises `UsageError`."""
    known = [arch.name for arch in ARCHS]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown architecture {name!r}: {near_names(name, known)}")
    return tuple(arch for arch in ARCHS if not names or arch.name in names)


def misfit(arch: Arch, shared_bytes: int, tensor_columns: int = 0) -> str:
    """Why not even one CTA fits an SM; empty where one does."""
    if shared_bytes > arch.shared_bytes_a_cta:
        need, limit = format_exact_bytes(shared_bytes), format_exact_bytes(arch.shared_bytes_a_cta)
        return f"a CTA takes {need} of shared memory, {arch.device} has {limit}"
    if tensor_columns > arch.tensor_columns:
        return f"a CTA takes {tensor_columns} columns of tensor memory, {arch.device} has {arch.tensor_columns}"
    return ""


def ctas_an_sm(arch: Arch, registers: int, shared_bytes: int, warps: int, tensor_columns: int = 0) -> int:
    """CTAs that an SM holds at once.

    `registers` are a thread's, `shared_bytes` and `tensor_columns` (of tensor memory) a CTA's. 0 where even one does
    not fit.
    """
    if misfit(arch, shared_bytes, tensor_columns):
        return 0
    warp_registers = _round_up(max(registers, 1) * WARP_SIZE, REGISTER_UNIT)
    warps_by_registers = arch.registers // REGISTER_FILES // warp_registers * REGISTER_FILES
    limits = [
        arch.max_ctas,
        min(arch.max_warps, warps_by_registers) // warps,
        arch.shared_bytes_an_sm // _round_up(shared_bytes + RESERVED_SHARED_BYTES, SHARED_UNIT_BYTES),
    ]
    if tensor_columns:
        limits.append(arch.tensor_columns // tensor_columns)
    return min(limits)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
