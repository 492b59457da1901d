"""What the suite can use beside its core, whether it is here, and how to get it."""

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from mlabench.doctor.finding import Finding
from mlabench.machine.fingerprint import DeviceKind


@dataclass(frozen=True, slots=True)
class Tool:
    """A Python distribution, or with `command` an executable on the PATH. `needed_on` names device kinds."""

    name: str
    use: str
    install: str
    command: str = ""
    needed_on: tuple[DeviceKind, ...] = ()


TOOLS: tuple[Tool, ...] = (
    Tool("triton", "the Triton kernels and the spins of the timer's self-test", "pip install triton", "", ("cuda",)),
    Tool("nvidia-ml-py", "clocks, power and temperature of a GPU", "pip install nvidia-ml-py", "", ("cuda",)),
    Tool("git", "the commit of a run, and comparisons between commits", "apt-get install git", "git", ("cpu", "cuda")),
    Tool(
        "ncu",
        "--counters",
        "install Nsight Compute (it is part of the CUDA toolkit) and put its folder on the PATH",
        "ncu",
    ),
    Tool("cupti-python", "--cross-check", "pip install cupti-python"),
    Tool("cuda-bench", "--cross-check", 'pip install "cuda-bench[cu13]" (or cu12)'),
)
"""Every tool, the needed ones first."""


def find_tools(device: DeviceKind) -> list[Finding]:
    """One finding a tool: missing is a warning where the device needs it."""
    return [_find(tool, device) for tool in TOOLS]


def _find(tool: Tool, device: DeviceKind) -> Finding:
    where = shutil.which(tool.command) if tool.command else _version(tool.name)
    if where is not None:
        return Finding(tool.name, "good", where, data={"found": where})
    needed = device in tool.needed_on
    return Finding(tool.name, "warning" if needed else "not here", f"missing; it serves {tool.use}", tool.install)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
