"""GPUs that are not there, for what a bind decides of them."""

from contextlib import AbstractContextManager

from mlabench.machine_code.archs import find_archs
from mlabench.machine_code.assumed_gpu import Launched, assumed_gpu


def gpu(arch: str = "sm_90") -> AbstractContextManager[list[Launched]]:
    """Tensors on `cuda` have no storage under it, and launches are compiled and listed."""
    return assumed_gpu(find_archs([arch])[0])
