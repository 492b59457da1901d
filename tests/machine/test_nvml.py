"""NVML read through a stand-in library: values with their units, None for what a GPU does not tell."""

from types import SimpleNamespace
from typing import Any

from mlabench.machine.nvml import Nvml
from mlabench.machine.telemetry import Telemetry


class NotSupportedError(Exception):
    pass


class Library:
    """As much of pynvml as is called; `missing` names what the GPU does not tell."""

    NVMLError = NotSupportedError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, *missing: str) -> None:
        self._missing = missing
        self.energy_mj = 0

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            return self._refuse
        return {
            "nvmlDeviceGetClockInfo": lambda _, which: {1: 1980, 2: 3201}[which],
            "nvmlDeviceGetMaxClockInfo": lambda *_: 1980,
            "nvmlDeviceGetPowerUsage": lambda _: 123_456,
            "nvmlDeviceGetTemperature": lambda *_: 41,
            "nvmlDeviceGetTotalEnergyConsumption": self._energy_mj,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda _: 0x4 | 0x20,
            "nvmlDeviceGetComputeRunningProcesses": lambda _: [object(), object()],
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=7),
            "nvmlDeviceGetMigMode": lambda _: (0, 0),
            "nvmlDeviceGetDisplayActive": lambda _: 1,
            "nvmlDeviceGetUUID": lambda _: "GPU-1",
        }[name]

    def _refuse(self, *_: object) -> None:
        raise NotSupportedError

    def _energy_mj(self, _: object) -> int:
        self.energy_mj += 1500
        return self.energy_mj


def test_sensors_carry_units_and_words() -> None:
    assert Nvml(Library(), None).sensors() == {
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 3201,
        "power_w": 123.456,
        "temperature_c": 41,
        "energy_j": 1.5,
        "clock_event_reasons": ["software power cap", "software thermal slowdown"],
        "compute_processes": 2,
    }


def test_state_says_who_else_is_there() -> None:
    assert Nvml(Library(), None).state() == {
        "uuid": "GPU-1",
        "compute_processes": 2,
        "utilization_percent": 7,
        "display_active": True,
        "mig_enabled": False,
        "max_sm_clock_mhz": 1980,
    }


def test_what_a_gpu_does_not_tell_is_none() -> None:
    nvml = Nvml(
        Library("nvmlDeviceGetMigMode", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetComputeRunningProcesses"), None
    )
    assert nvml.state()["mig_enabled"] is None
    assert nvml.sensors()["power_w"] is None
    assert nvml.sensors()["compute_processes"] is None


def test_telemetry_keeps_no_more_than_it_needs() -> None:
    telemetry = Telemetry(Nvml(Library(), None))
    for _ in range(5):
        telemetry.read()
    telemetry.keep()
    columns = telemetry.to_json()
    assert columns["energy_j"] == [1.5, 3.0]
    assert columns["at_s"] == sorted(columns["at_s"])
    assert {len(values) for values in columns.values()} == {2}
