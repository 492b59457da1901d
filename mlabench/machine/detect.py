"""Which device there is, without importing torch."""

from mlabench.errors import UsageError
from mlabench.machine.fingerprint import DeviceKind, cpu_name
from mlabench.machine.nvml import Nvml


def choose_device(device: str) -> DeviceKind:
    """`cpu` or `cuda` for a request of `auto`, `cpu` or `cuda`. Raises `UsageError` for `cuda` without a GPU."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}: choose auto, cpu or cuda")
    if device == "cpu":
        return "cpu"
    if Nvml.open() is not None:
        return "cuda"
    if device == "cuda":
        raise UsageError(
            "--device cuda: no NVIDIA GPU answers here; use --device cpu, or mend the driver (see nvidia-smi)"
        )
    return "cpu"


def device_name(device: str) -> str:
    """The device's marketing name."""
    nvml = Nvml.open() if device == "cuda" else None
    return (nvml.name() if nvml else None) or cpu_name()
