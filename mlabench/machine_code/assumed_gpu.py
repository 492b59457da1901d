"""A GPU that is not there: kernels bind and launch as ever, and every launch ends as the machine code it would run.

Tensors have a shape, a dtype and a device, but no storage (they are torch's meta tensors); Triton's driver is replaced
by one that names the assumed architecture and keeps what it is given to load. A kernel runs its own Python up to the
launch, so what is compiled is what it would launch. One that reads a tensor's values cannot be followed.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch  # noqa: TID253
from torch.overrides import TorchFunctionMode  # noqa: TID253

from mlabench.machine_code.archs import WARP_SIZE, Arch

DEVICE = torch.device("cuda", 0)
META = torch.device("meta")


@dataclass(frozen=True, slots=True)
class Launched:
    """A kernel that was launched; `shared_bytes` and `tensor_columns` (of tensor memory) are those of a CTA."""

    function: str
    cubin: bytes
    num_warps: int
    shared_bytes: int
    tensor_columns: int


@contextmanager
def assumed_gpu(arch: Arch) -> Iterator[list[Launched]]:
    """Within, torch and Triton see this architecture's device; what is launched there is appended to the list."""
    import triton
    from triton.runtime.autotuner import Autotuner

    launched: list[Launched] = []
    with ExitStack() as stack:
        stack.enter_context(_AssumedTensors())
        stack.enter_context(patch.multiple(torch.cuda, **_torch_device(arch)))
        # A kernel that is too large is to be told with its numbers, and not to hide those launched after it.
        stack.enter_context(patch("triton.compiler.compiler.max_shared_mem", lambda _: sys.maxsize, create=True))
        stack.enter_context(patch.object(triton.runtime.driver, "_active", _Driver(arch, launched)))
        stack.enter_context(patch.object(Autotuner, "run", _forgetting(Autotuner.run)))
        yield launched


class GpuTensor(torch.Tensor):
    """A tensor without storage that says it lies on the GPU."""

    device = property(lambda _: DEVICE)
    is_cuda = property(lambda _: True)


class _AssumedTensors(TorchFunctionMode):
    """Puts what is asked for on the GPU on torch's meta device instead."""

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.device:
            return func(*args, **kwargs or {})
        return _to_gpu(func(*_to_meta(args), **_to_meta(dict(kwargs or {}))))


def _to_meta(value: Any) -> Any:
    match value:
        case GpuTensor():
            return value.as_subclass(torch.Tensor)
        case torch.device(type="cuda"):
            return META
        case str() if value.startswith("cuda"):
            return META
        case dict():
            return {name: _to_meta(each) for name, each in value.items()}
    return type(value)(map(_to_meta, value)) if type(value) in (list, tuple) else value


def _to_gpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_meta:
        return value.as_subclass(GpuTensor)
    return type(value)(map(_to_gpu, value)) if type(value) in (list, tuple) else value


def _torch_device(arch: Arch) -> dict[str, Any]:
    major, minor = divmod(arch.capability, 10)
    properties = SimpleNamespace(
        name=arch.device,
        major=major,
        minor=minor,
        multi_processor_count=arch.num_sms,
        shared_memory_per_block_optin=arch.shared_bytes_a_cta,
        shared_memory_per_multiprocessor=arch.shared_bytes_an_sm,
        regs_per_multiprocessor=arch.registers,
        max_threads_per_multi_processor=arch.max_warps * WARP_SIZE,
        warp_size=WARP_SIZE,
    )
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda _device=None: properties,
        "get_device_capability": lambda _device=None: (major, minor),
        "get_device_name": lambda _device=None: arch.device,
    }


class _Driver:
    """The part of Triton's driver that a launch uses."""

    def __init__(self, arch: Arch, launched: list[Launched]) -> None:
        self._arch = arch
        self._launched = launched
        self.utils = self

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._arch.capability, WARP_SIZE)

    def get_current_device(self) -> int:
        """A number of its own for each architecture: by it Triton finds what this process has compiled before."""
        return self._arch.capability

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return DEVICE

    def get_benchmarker(self) -> Callable[..., list[float]]:
        return _run_once

    def get_device_properties(self, _device: int) -> dict[str, int]:
        return {
            "max_shared_mem": self._arch.shared_bytes_a_cta,
            "max_num_regs": self._arch.registers,
            "multiprocessor_count": self._arch.num_sms,
            "warpSize": WARP_SIZE,
        }

    def load_binary(self, name: str, cubin: bytes, _shared: int, _device: int) -> tuple[Any, ...]:
        """Module, function, registers, spills and the most threads; the machine code stands for the function."""
        return None, (name, cubin), 0, 0, 1024

    def launcher_cls(self, _source: Any, metadata: Any) -> Callable[..., None]:
        """What Triton calls to launch, with the grid, the stream and the loaded function first."""

        def launch(_x: int, _y: int, _z: int, _stream: int, function: tuple[str, bytes], *_: Any) -> None:
            tensor_columns = getattr(metadata, "tmem_size", None) or 0
            self._launched.append(Launched(*function, metadata.num_warps, metadata.shared, tensor_columns))

        return launch


def _forgetting(run: Callable[..., Any]) -> Callable[..., Any]:
    """An autotuner's run that tries every candidate each time, and stores nothing for runs that do measure."""

    def run_anew(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        tuner.cache.clear()
        tuner.cache_results = False
        return run(tuner, *args, **kwargs)

    return run_anew


def _run_once(call: Callable[[], None], quantiles: Any = None, **_: Any) -> list[float]:
    """Stands for the timing of an autotuner, whose every candidate is thereby compiled."""
    call()
    return [0.0] * len(quantiles or (0.5,))
