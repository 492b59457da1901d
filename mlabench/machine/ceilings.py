"""The ceilings of a machine, and the floor of a case under them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a machine reached at most: memory traffic in bytes/s and matrix products in FLOP/s, by dtype.

    `read_bytes_per_s` and `write_bytes_per_s` stream a large tensor once; `copy_bytes_per_s` counts bytes read and
    written. Raises `ValueError` for a rate that is not above zero.
    """

    read_bytes_per_s: float
    write_bytes_per_s: float
    copy_bytes_per_s: float
    matmul_flops_per_s: Mapping[str, float]

    def __post_init__(self) -> None:
        rates = (self.read_bytes_per_s, self.write_bytes_per_s, self.copy_bytes_per_s)
        if not all(rate > 0 for rate in (*rates, *self.matmul_flops_per_s.values())):
            raise ValueError("a ceiling is not above zero")

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """The highest of the three traffic rates, so that the floor is one whatever the mix of reads and writes."""
        return max(self.read_bytes_per_s, self.write_bytes_per_s, self.copy_bytes_per_s)

    def memory_us(self, bytes_moved: int) -> float:
        """Least time to move the bytes, in microseconds."""
        return bytes_moved / self.bandwidth_bytes_per_s * 1e6

    def compute_us(self, flops: int, dtype: str) -> float | None:
        """Least time for the FLOP, in microseconds; None where the dtype's rate was not measured."""
        rate = self.matmul_flops_per_s.get(dtype)
        return None if rate is None else flops / rate * 1e6

    def floor_us(self, bytes_moved: int, flops: int, dtype: str) -> float | None:
        """The roofline's least time: the longer of moving the bytes and doing the FLOP."""
        compute_us = self.compute_us(flops, dtype)
        return None if compute_us is None else max(self.memory_us(bytes_moved), compute_us)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)


def ridge_flops_per_byte(ceilings: Ceilings, dtype: str) -> float | None:
    """Arithmetic intensity at which the roofline bends."""
    rate = ceilings.matmul_flops_per_s.get(dtype)
    return None if rate is None else rate / ceilings.bandwidth_bytes_per_s
