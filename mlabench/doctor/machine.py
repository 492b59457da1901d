"""What machine this is, and what on it would disturb a measurement."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlabench.doctor.finding import Examination, Finding
from mlabench.doctor.software import find_tools
from mlabench.machine.fingerprint import Fingerprint, usable_cpus
from mlabench.machine.nvml import THROTTLE_REASONS, Nvml
from mlabench.units import format_bytes, format_clock, format_percent, format_power

BUSY_LOAD = 0.5
"""Load average over processors above which others are computing."""

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

MODES = ("persistence_mode", "ecc.mode.current")
"""What nvidia-smi is asked for beside NVML's sensors."""


def examine_machine(examination: Examination) -> list[Finding]:
    """The machine, its software, and what is missing."""
    fingerprint = examination.fingerprint
    own = _gpu(fingerprint) if examination.device == "cuda" else _cpu(fingerprint)
    return [*own, _software(fingerprint), *find_tools(examination.device)]


def _software(fingerprint: Fingerprint) -> Finding:
    versions = {
        "driver": fingerprint.driver,
        "CUDA": fingerprint.cuda,
        "torch": fingerprint.torch,
        "Triton": fingerprint.triton,
        "Python": fingerprint.python,
    }
    text = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    return Finding("software", "good", f"{text}; {fingerprint.system}", data=fingerprint.to_json())


def _cpu(fingerprint: Fingerprint) -> list[Finding]:
    processors = usable_cpus()
    memory = format_bytes(fingerprint.memory_bytes)
    device = f"{fingerprint.device_name}: {processors} processors ({fingerprint.processors} for torch), {memory}"
    return [Finding("device", "good", device), *_load(processors), read_governor(GOVERNOR)]


def _load(processors: int) -> list[Finding]:
    return [judge_load(os.getloadavg()[0], processors)] if hasattr(os, "getloadavg") else []


def judge_load(load: float, processors: int) -> Finding:
    """Whether others are computing, from the load average of the last minute."""
    share = load / processors
    text = f"load average of the last minute: {format_percent(share)} of {processors} processors"
    data = {"load_average_1min": load, "processors": processors}
    if share > BUSY_LOAD:
        return Finding("load", "warning", text, "stop what else computes here, or expect wide intervals", data)
    return Finding("load", "good", text, data=data)


def read_governor(path: Path) -> Finding:
    """Whether the clocks follow the load."""
    try:
        governor = path.read_text(encoding="ascii").strip()
    except OSError:
        return Finding("frequency governor", "not here", "the system does not tell it")
    if governor == "performance":
        return Finding("frequency governor", "good", governor)
    mend = "sudo cpupower frequency-set -g performance"
    return Finding("frequency governor", "warning", f"{governor}: clocks follow the load", mend)


def _gpu(fingerprint: Fingerprint) -> list[Finding]:
    import torch

    properties = torch.cuda.get_device_properties(0)
    uuid = f"GPU-{properties.uuid}"
    device = (
        f"{fingerprint.device_name}: {fingerprint.processors} multiprocessors, "
        f"{format_bytes(fingerprint.memory_bytes)}, L2 {format_bytes(properties.L2_cache_size)}"
    )
    nvml = Nvml.open(uuid)
    if nvml is None:
        return [
            Finding("device", "good", device),
            Finding("sensors", "warning", "NVML does not answer", "pip install nvidia-ml-py, or mend the driver"),
        ]
    state = nvml.state()
    # From here on this process has a context, so that it is one of those that NVML counts.
    torch.zeros(1, device="cuda")
    sensors = {**nvml.sensors(), "power_limit_w": fingerprint.power_limit_w}
    return [Finding("device", "good", device, data=state), *judge_gpu(state, sensors, _modes(uuid))]


def judge_gpu(state: Mapping[str, Any], sensors: Mapping[str, Any], modes: Mapping[str, str]) -> list[Finding]:
    """Findings on what NVML and nvidia-smi told; `sensors` were read while this process had a context."""
    return [
        _power(sensors),
        _clocks(state, sensors),
        _processes(state, sensors),
        _display(state),
        _mig(state),
        _persistence(modes.get("persistence_mode")),
        _ecc(modes.get("ecc.mode.current")),
    ]


def _power(sensors: Mapping[str, Any]) -> Finding:
    limit = sensors.get("power_limit_w")
    text = f"now {format_power(sensors.get('power_w'))}, limit {format_power(limit)}"
    return Finding("power", "good", text, data=sensors)


def _clocks(state: Mapping[str, Any], sensors: Mapping[str, Any]) -> Finding:
    now, highest = sensors.get("sm_clock_mhz"), state.get("max_sm_clock_mhz")
    memory = sensors.get("memory_clock_mhz")
    text = f"SM {format_clock(now)} of at most {format_clock(highest)}, memory {format_clock(memory)}"
    held = sorted(THROTTLE_REASONS & set(sensors.get("clock_event_reasons") or ()))
    if held:
        mend = "let the card cool down, and see what else draws on it"
        return Finding("clocks", "warning", f"{text}; held down by {', '.join(held)}", mend)
    return Finding("clocks", "good", text)


def _processes(state: Mapping[str, Any], sensors: Mapping[str, Any]) -> Finding:
    count, busy = sensors.get("compute_processes"), state.get("utilization_percent") or 0
    data = {"compute_processes": count, "utilization_percent_before": state.get("utilization_percent")}
    if count is None:
        return Finding("other processes", "not here", "NVML does not tell them", data=data)
    others = max(0, count - 1)
    if others or busy > 5:
        text = f"{others} other processes on the GPU; it was busy {format_percent(busy / 100)} of the time before"
        return Finding("other processes", "warning", text, "see nvidia-smi, and wait until they end", data)
    return Finding("other processes", "good", "none on the GPU", data=data)


def _display(state: Mapping[str, Any]) -> Finding:
    if state.get("display_active"):
        return Finding("display", "warning", "a display is drawn by this GPU", "use another GPU, or no desktop")
    known = state.get("display_active") is not None
    return Finding("display", "good" if known else "not here", "none" if known else "NVML does not tell")


def _mig(state: Mapping[str, Any]) -> Finding:
    if state.get("mig_enabled"):
        return Finding("MIG", "warning", "on: this is a part of a GPU, and the datasheet's numbers are the whole's")
    known = state.get("mig_enabled") is not None
    return Finding("MIG", "good" if known else "not here", "off" if known else "the GPU has none")


def _persistence(mode: str | None) -> Finding:
    if mode == "Disabled":
        mend = "sudo nvidia-smi -pm 1"
        return Finding("persistence mode", "warning", "off: the driver unloads between processes", mend)
    return Finding("persistence mode", "good" if mode else "not here", mode or "nvidia-smi does not tell")


def _ecc(mode: str | None) -> Finding:
    return Finding("ECC", "good" if mode else "not here", mode or "nvidia-smi does not tell")


def _modes(uuid: str) -> dict[str, str]:
    command = ["nvidia-smi", f"--id={uuid}", f"--query-gpu={','.join(MODES)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    words = [word.strip() for word in done.stdout.strip().split(",")]
    return {name: word for name, word in zip(MODES, words, strict=False) if not word.startswith("[")}
