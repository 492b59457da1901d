"""The machine that is about to be measured on: whether it is busy, and its fingerprint without measuring."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from mlabench.doctor.machine import judge_load
from mlabench.errors import UsageError
from mlabench.machine.fingerprint import Fingerprint, usable_cpus
from mlabench.measure.config import SweepConfig
from mlabench.measure.isolation import Worker, WorkerDied, WorkerSetup
from mlabench.measure.timing.method import Budget
from mlabench.records.store import WORKER_LOG_NAME

INTERPRETED = (
    "TRITON_INTERPRET is set: times of Triton kernels are the interpreter's, and in bfloat16 their products are wrong: "
    "take --dtype float16 or float32"
)


def device_warnings(device: str) -> tuple[str, ...]:
    """A line where others are computing on the processors that are to be timed, and where Triton is interpreted."""
    return (*_load_warnings(device), *((INTERPRETED,) if os.environ.get("TRITON_INTERPRET", "0") != "0" else ()))


def _load_warnings(device: str) -> tuple[str, ...]:
    if device != "cpu" or not hasattr(os, "getloadavg"):
        return ()
    finding = judge_load(os.getloadavg()[0], usable_cpus())
    return (f"{finding.found}: {finding.mend}",) if finding.status == "warning" else ()


def worker_fingerprint(config: SweepConfig) -> Fingerprint:
    """The fingerprint that a sweep with these settings would store. Raises `UsageError` where no worker starts."""
    with tempfile.TemporaryDirectory(prefix="mlabench-") as folder:
        log = Path(folder) / WORKER_LOG_NAME
        worker = Worker(WorkerSetup(config.device, config.method, config.cache, config.seed, asdict(Budget()), log))
        try:
            return Fingerprint.from_json(worker.start())
        except WorkerDied as death:
            raise UsageError(f"the {config.device} device cannot be measured: {death}") from None
        finally:
            worker.stop()
