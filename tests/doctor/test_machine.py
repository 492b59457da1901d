"""Findings on the machine, from what NVML, nvidia-smi and the system say."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlabench.doctor import machine, software
from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.machine import examine_machine, judge_gpu, judge_load, read_governor
from mlabench.doctor.software import TOOLS, find_tools
from tests.factories import FINGERPRINTS

QUIET_STATE: dict[str, Any] = {
    "utilization_percent": 0,
    "display_active": False,
    "mig_enabled": False,
    "max_sm_clock_mhz": 1980,
}
SENSORS: dict[str, Any] = {
    "sm_clock_mhz": 345,
    "memory_clock_mhz": 3201,
    "power_w": 76.4,
    "power_limit_w": 700.0,
    "clock_event_reasons": ["idle"],
    "compute_processes": 1,
}
MODES = {"persistence_mode": "Enabled", "ecc.mode.current": "Enabled"}


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}


def test_a_quiet_gpu_is_good() -> None:
    findings = judge_gpu(QUIET_STATE, SENSORS, MODES)
    assert set(statuses(findings).values()) == {"good"}
    assert findings[0].found == "now 76 W, limit 700 W"
    assert findings[1].found == "SM 345 MHz of at most 1980 MHz, memory 3201 MHz"


@pytest.mark.parametrize(
    ("state", "sensors", "modes", "name", "words"),
    [
        ({}, {"compute_processes": 3}, {}, "other processes", "2 other processes on the GPU"),
        ({"utilization_percent": 60}, {}, {}, "other processes", "busy 60% of the time"),
        ({"display_active": True}, {}, {}, "display", "a display is drawn"),
        ({"mig_enabled": True}, {}, {}, "MIG", "a part of a GPU"),
        ({}, {}, {"persistence_mode": "Disabled"}, "persistence mode", "off"),
        ({}, {"clock_event_reasons": ["software thermal slowdown"]}, {}, "clocks", "software thermal slowdown"),
    ],
)
def test_what_disturbs_is_a_warning(
    state: dict[str, Any], sensors: dict[str, Any], modes: dict[str, str], name: str, words: str
) -> None:
    findings = judge_gpu(QUIET_STATE | state, SENSORS | sensors, MODES | modes)
    (warning,) = [finding for finding in findings if finding.status == "warning"]
    assert warning.name == name
    assert words in warning.found


def test_what_nvml_does_not_tell_is_not_here() -> None:
    found = statuses(judge_gpu({}, {}, {}))
    assert found["other processes"] == found["display"] == found["MIG"] == found["ECC"] == "not here"


def test_modes_are_read_from_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(command: list[str], **_options: object) -> "subprocess.CompletedProcess[str]":
        asked.extend(command)
        return subprocess.CompletedProcess(command, 0, "Disabled, [N/A]\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert machine._modes("GPU-1") == {"persistence_mode": "Disabled"}
    assert "--id=GPU-1" in asked


def test_load_and_governor(tmp_path: Path) -> None:
    assert judge_load(0.4, 2).status == "good"
    assert judge_load(1.9, 2).status == "warning"
    governor = tmp_path / "scaling_governor"
    assert read_governor(governor).status == "not here"
    governor.write_text("powersave\n")
    assert "powersave" in read_governor(governor).found
    assert read_governor(governor).mend == "sudo cpupower frequency-set -g performance"
    governor.write_text("performance\n")
    assert read_governor(governor).status == "good"


def test_missing_tools_come_with_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software.shutil, "which", lambda _name: None)
    monkeypatch.setattr(software, "_version", lambda _name: None)
    for device, needed in (("cpu", {"git"}), ("cuda", {"triton", "nvidia-ml-py", "git"})):
        findings = find_tools(device)  # type: ignore[arg-type]
        assert len(findings) == len(TOOLS)
        assert all(finding.mend for finding in findings)
        assert {finding.name for finding in findings if finding.status == "warning"} == needed


def test_this_machine() -> None:
    findings = examine_machine(Examination("cpu", True, FINGERPRINTS["cpu"]))
    assert findings[0].found.startswith("Synthetic CPU: ")
    (versions,) = [finding for finding in findings if finding.name == "software"]
    assert versions.data["torch"] == "2.13.0"
    assert "bad" not in statuses(findings).values()


@pytest.mark.parametrize("answers", [True, False])
def test_a_gpu_with_and_without_nvml(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    properties = SimpleNamespace(uuid="1234", L2_cache_size=60 << 20)
    nvml = SimpleNamespace(state=lambda: QUIET_STATE, sensors=lambda: SENSORS)
    opened: list[str] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    monkeypatch.setattr(torch, "zeros", lambda *_shape, **_options: None)
    monkeypatch.setattr(machine.Nvml, "open", lambda uuid: opened.append(uuid) or (nvml if answers else None))
    monkeypatch.setattr(machine, "_modes", lambda _uuid: MODES)
    findings = examine_machine(Examination("cuda", True, FINGERPRINTS["cuda"]))
    assert opened == ["GPU-1234"]
    assert findings[0].found == "Synthetic H200: 132 multiprocessors, 150 GB, L2 62.9 MB"
    assert ("power" in statuses(findings)) == answers
    assert (statuses(findings).get("sensors") == "warning") != answers
