"""Reading an NVIDIA GPU's own sensors through NVML. Nothing here changes a setting."""

from collections.abc import Callable
from typing import Any

CLOCK_EVENT_REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
"""Bits of nvmlClocksEventReasons (NVML API reference), in words."""

THROTTLE_REASONS = frozenset(
    {
        "software power cap",
        "hardware slowdown",
        "software thermal slowdown",
        "hardware thermal slowdown",
        "hardware power brake",
    }
)
"""The reasons that make a point `throttled`."""


class Nvml:
    """One GPU's sensors."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    @classmethod
    def open(cls, uuid: str | None = None) -> "Nvml | None":
        """The GPU with this UUID, or the first one; None where NVML does not answer."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else pynvml.nvmlDeviceGetHandleByIndex(0)
        except pynvml.NVMLError:
            return None
        return cls(pynvml, handle)

    def name(self) -> str | None:
        """The GPU's marketing name."""
        name: str | None = self._read(self._library.nvmlDeviceGetName)
        return name

    def driver(self) -> str | None:
        """The driver's version."""
        try:
            return str(self._library.nvmlSystemGetDriverVersion())
        except self._library.NVMLError:
            return None

    def memory_bytes(self) -> int | None:
        """Total memory."""
        info = self._read(self._library.nvmlDeviceGetMemoryInfo)
        return None if info is None else int(info.total)

    def power_limit_w(self) -> float | None:
        """The enforced power limit, in watts."""
        return _scale(self._read(self._library.nvmlDeviceGetEnforcedPowerLimit), 1e-3)

    def state(self) -> dict[str, Any]:
        """What tells whether the GPU is this process's alone: a value that it does not tell is None.

        `compute_processes` counts every process with a context on it, this one too if it has one.
        """
        lib = self._library
        utilization = self._read(lib.nvmlDeviceGetUtilizationRates)
        mig = self._read(lib.nvmlDeviceGetMigMode)
        display = self._read(lib.nvmlDeviceGetDisplayActive)
        return {
            "uuid": self._read(lib.nvmlDeviceGetUUID),
            "compute_processes": self._compute_processes(),
            "utilization_percent": None if utilization is None else int(utilization.gpu),
            "display_active": None if display is None else bool(display),
            "mig_enabled": None if mig is None else bool(mig[0]),
            "max_sm_clock_mhz": self._read(lib.nvmlDeviceGetMaxClockInfo, lib.NVML_CLOCK_SM),
        }

    def sensors(self) -> dict[str, Any]:
        """Clocks in MHz, power in W, temperature in degrees Celsius, energy since boot in J, and what holds clocks."""
        lib = self._library
        bits = self._read(getattr(lib, "nvmlDeviceGetCurrentClocksEventReasons", None))
        if bits is None:
            bits = self._read(getattr(lib, "nvmlDeviceGetCurrentClocksThrottleReasons", None))
        reasons = None if bits is None else [text for bit, text in CLOCK_EVENT_REASONS.items() if bits & bit]
        return {
            "sm_clock_mhz": self._read(lib.nvmlDeviceGetClockInfo, lib.NVML_CLOCK_SM),
            "memory_clock_mhz": self._read(lib.nvmlDeviceGetClockInfo, lib.NVML_CLOCK_MEM),
            "power_w": _scale(self._read(lib.nvmlDeviceGetPowerUsage), 1e-3),
            "temperature_c": self._read(lib.nvmlDeviceGetTemperature, lib.NVML_TEMPERATURE_GPU),
            "energy_j": _scale(self._read(lib.nvmlDeviceGetTotalEnergyConsumption), 1e-3),
            "clock_event_reasons": reasons,
            "compute_processes": self._compute_processes(),
        }

    def _compute_processes(self) -> int | None:
        processes = self._read(self._library.nvmlDeviceGetComputeRunningProcesses)
        return None if processes is None else len(processes)

    def _read(self, call: Callable[..., Any] | None, *arguments: Any) -> Any:
        if call is None:
            return None
        try:
            return call(self._handle, *arguments)
        except self._library.NVMLError:
            return None


def _scale(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
