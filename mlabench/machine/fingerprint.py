"""What must agree before two runs' times may be compared."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The machine and the software under a run. A value that the machine does not tell is None.

    `processors` are a GPU's multiprocessors, or the threads that torch uses on a CPU.
    """

    device: str
    device_name: str
    processors: int
    memory_bytes: int | None
    power_limit_w: float | None
    driver: str | None
    cuda: str | None
    torch: str | None
    triton: str | None
    python: str
    system: str

    @property
    def slug(self) -> str:
        """The device's name as part of a file name."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.device_name.lower()).split())

    def differences(self, other: "Fingerprint") -> list[str]:
        """One clause for each value that differs; Python and the system's release may."""
        compared = [f.name for f in fields(self) if f.name not in ("python", "system", "memory_bytes")]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in compared]
        return [f"{name} {mine!r} against {theirs!r}" for name, mine, theirs in pairs if mine != theirs]

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Fingerprint":
        """The fingerprint that `to_json` made these values from."""
        return cls(**{f.name: plain.get(f.name) for f in fields(cls)})  # type: ignore[arg-type]


def take_fingerprint(device: DeviceKind) -> Fingerprint:
    """The fingerprint of this process's machine; imports torch."""
    import torch

    from mlabench.machine.nvml import Nvml

    software: dict[str, Any] = {
        "torch": torch.__version__,
        "triton": _triton_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }
    if device == "cpu":
        return Fingerprint(
            device="cpu",
            device_name=cpu_name(),
            processors=torch.get_num_threads(),
            memory_bytes=_host_memory_bytes(),
            power_limit_w=None,
            driver=None,
            cuda=None,
            **software,
        )
    properties = torch.cuda.get_device_properties(0)
    nvml = Nvml.open(f"GPU-{properties.uuid}")
    return Fingerprint(
        device="cuda",
        device_name=properties.name,
        processors=properties.multi_processor_count,
        memory_bytes=properties.total_memory,
        power_limit_w=nvml.power_limit_w() if nvml else None,
        driver=nvml.driver() if nvml else None,
        cuda=torch.version.cuda,
        **software,
    )


def usable_cpus() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's marketing name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _host_memory_bytes() -> int | None:
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _triton_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        return None
