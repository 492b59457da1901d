import pytest

from mlabench.machine_code.archs import ARCHS, ctas_an_sm, misfit

SM_80, SM_90, SM_100 = ARCHS


@pytest.mark.parametrize(
    ("registers", "shared_bytes", "warps", "ctas"),
    [
        (32, 0, 1, 32),  # no more CTAs than that
        (32, 0, 8, 8),  # 64 warps
        (255, 0, 8, 1),  # 2 warps in each of the four register files
        (168, 0, 4, 3),  # 3 warps a file
        (40, 0, 16, 3),  # 12 warps a file, 48 in all
        (64, 100_000, 4, 2),  # 101,120 bytes each with what the system reserves
        (64, 232_448, 4, 1),
        (64, 232_449, 4, 0),
        (255, 0, 16, 0),
    ],
)
def test_ctas_an_sm_on_sm_90(registers: int, shared_bytes: int, warps: int, ctas: int) -> None:
    assert ctas_an_sm(SM_90, registers, shared_bytes, warps) == ctas


def test_tensor_memory_limits_too() -> None:
    assert ctas_an_sm(SM_100, 64, 1000, 4, tensor_columns=256) == 2
    assert ctas_an_sm(SM_100, 64, 1000, 4, tensor_columns=513) == 0
    assert "513 columns of tensor memory" in misfit(SM_100, 0, 513)


def test_an_a100_has_less_shared_memory() -> None:
    assert misfit(SM_90, 200_000) == ""
    assert misfit(SM_80, 200_000) == "a CTA takes 200,000 B of shared memory, NVIDIA A100 has 166,912 B"
