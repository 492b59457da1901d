"""The process that touches the device: it answers a JSON line a request, and may die without the sweep.

Requests come on standard input, answers go to the original standard output; whatever kernels print goes to standard
error. The end of standard input ends the process at once, so that no worker outlives its sweep.
"""

import faulthandler
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from mlabench.cases.case import Case
from mlabench.machine.fingerprint import take_fingerprint, usable_cpus
from mlabench.machine.nvml import Nvml
from mlabench.machine.processors import Processors
from mlabench.machine.telemetry import Sensors
from mlabench.measure.interleave import interleave
from mlabench.measure.kernels import find_kernel
from mlabench.measure.probe import probe_ceilings
from mlabench.measure.runner import Runner
from mlabench.measure.sides import AskedSide
from mlabench.measure.timing.method import Budget
from mlabench.measure.timing.methods import make_timer
from mlabench.measure.trial import attempt, make_trials
from mlabench.records.pairs import plan_from_json


def main() -> None:
    """Serve requests until standard input ends."""
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[Mapping[str, Any]] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    setup = requests.get()
    runner = _make_runner(setup)
    gpu_state = runner.sensors.state() if isinstance(runner.sensors, Nvml) else None
    _answer(answers, {"fingerprint": take_fingerprint(setup["device"]).to_json(), "gpu_state": gpu_state})
    while True:
        _answer(answers, _serve(runner, requests.get(), lambda step: _answer(answers, {"at": step})))
        if runner.spoiled:
            return


def _make_runner(setup: Mapping[str, Any]) -> Runner:
    import torch

    device = setup["device"]
    sensors: Sensors | None
    if device == "cuda":
        sensors = Nvml.open(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    else:
        sensors = Processors.open()
        if "OMP_NUM_THREADS" not in os.environ:
            # A core stays free for the rest of the machine: torch's threads spin, and one descheduled halts all.
            torch.set_num_threads(max(1, usable_cpus() - 1))
    timer = make_timer(setup["method"], device, setup["cache"])
    return Runner(device, timer, setup["seed"], Budget(**setup["budget"]), sensors)


def _serve(runner: Runner, request: Mapping[str, Any], announce: Callable[[str], None]) -> Mapping[str, Any]:
    if request["do"] == "probe":
        return {"ceilings": probe_ceilings(runner.device, request["dtypes"]).to_json()}
    case = Case.from_fields(request["case"], models=tuple(request["models"]))
    if request["do"] == "interleave":
        base, *candidates = map(AskedSide.from_json, request["sides"])
        pairs = interleave(runner, case, base, candidates, plan_from_json(request["plan"]), announce)
        return {"pairs": [pair.to_json() for pair in pairs], "spoiled": runner.spoiled}
    if request["do"] == "trial":
        asked = AskedSide.from_json(request["side"])
        trial = make_trials(case, asked.kernel)[request["place"]]
        return {**attempt(runner, trial, asked), "spoiled": runner.spoiled}
    record = runner.run(case, find_kernel(request["kernel"]))
    return {"record": record.to_json(), "spoiled": runner.spoiled}


def _read_requests(requests: "queue.Queue[Mapping[str, Any]]") -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)


def _answer(answers: TextIO, plain: Mapping[str, Any]) -> None:
    answers.write(json.dumps(plain) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
