"""Other ways to time the same launches; run as a process of its own, since profilers do not share one.

`python -m mlabench.doctor.opinions NAME FILE` writes the times in microseconds by launch.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mlabench.cases.axes import Value
from mlabench.doctor.launches import bind_case, make_case, mark
from mlabench.doctor.profiles import scope_time_us, spans_us
from mlabench.measure.timing.method import Budget, Call, nothing

SPIN_NS = 100_000

CASES: tuple[Mapping[str, Value], ...] = (
    {"variant": "gqa", "batch": 1, "kv_len": 4096},
    {"variant": "gqa", "batch": 32, "kv_len": 4096},
    {"variant": "mla", "batch": 1, "kv_len": 4096},
    {"variant": "mla", "batch": 32, "kv_len": 4096},
)
"""Small and medium launches of the suite's Triton kernels, beside the spin."""

SAMPLES = 50

Times = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Opinion:
    """A way to time. `cache` and `with_overhead` say which of our numbers it is to be held against.

    `package` is the module to look for, `install` how to get it; `includes` says what its times hold.
    """

    name: str
    time: Callable[[Mapping[str, Call]], Times]
    package: str
    install: str
    cache: str
    with_overhead: bool
    includes: str


def time_ours(launches: Mapping[str, Call]) -> dict[str, Any]:
    """The graph method's samples under a cold and a warm cache, and its overhead."""
    from mlabench.measure.timing.methods import make_timer

    timers = {cache: make_timer("graph", "cuda", cache) for cache in ("cold", "warm")}
    times = {
        cache: {label: list(timer.measure(launch, nothing, Budget()).samples_us) for label, launch in launches.items()}
        for cache, timer in timers.items()
    }
    return {**times, "overhead_us": timers["cold"].overhead_us()}


def time_with_cupti(launches: Mapping[str, Call]) -> Times:
    """From the start of a launch's first kernel to the end of its last, by CUPTI's activity records."""
    import torch

    cupti: Any = import_module("cupti.cupti")

    kernels: list[tuple[str, int, int]] = []

    def keep(records: Sequence[Any]) -> None:
        kernels.extend((record.name, record.start, record.end) for record in records)

    def give_buffer() -> tuple[int, int]:
        return 8 << 20, 0

    cupti.activity_enable(cupti.ActivityKind.CONCURRENT_KERNEL)
    cupti.activity_register_callbacks(give_buffer, keep)
    times: Times = {}
    for label, launch in launches.items():
        # Captured only now, since CUPTI follows the kernels of graphs that are made under it; so is what capturing ran.
        replay = _captured(launch)
        torch.cuda.synchronize()
        cupti.activity_flush_all(1)
        kernels.clear()
        _sample_between_marks(replay)
        torch.cuda.synchronize()
        cupti.activity_flush_all(1)
        times[label] = spans_us(kernels)
    cupti.activity_disable(cupti.ActivityKind.CONCURRENT_KERNEL)
    return times


def time_with_proton(launches: Mapping[str, Call]) -> Times:
    """The sum of a launch's kernel durations, as a mean over the launches, by Triton's Proton."""
    import torch
    import triton.profiler as proton

    _flush()  # captures its graph, of which Proton need not know
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile"
        proton.start(str(path), context="shadow", data="tree")
        for label, launch in launches.items():
            for _ in range(SAMPLES):
                _flush()
                with proton.scope(label):
                    launch()
        torch.cuda.synchronize()
        proton.finalize()
        tree = json.loads(path.with_suffix(".hatchet").read_text(encoding="utf-8"))
    return {label: [scope_time_us(tree, label) / SAMPLES] for label in launches}


def time_with_nvbench(launches: Mapping[str, Call]) -> Times:
    """NVBench's cold measurement."""
    import torch

    bench: Any = import_module("cuda.bench")
    results: Any = import_module("cuda.bench.results")
    for label, launch in launches.items():
        benchmark = bench.register(_nvbench_function(_captured(launch), torch, label))
        benchmark.set_name(label)
        benchmark.set_timeout(2.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nvbench.json"
        bench.run_all_benchmarks([sys.argv[0], "--quiet", "--devices", "0", "--jsonbin", str(path)])
        result = results.BenchmarkResult.from_json(path)
        return {label: [1e6 * s for state in result[label] for s in state.samples or ()] for label in launches}


def time_with_do_bench(launches: Mapping[str, Call]) -> Times:
    """`triton.testing.do_bench`."""
    from triton.testing import do_bench

    return {label: _us(do_bench(launch, return_mode="all")) for label, launch in launches.items()}


def time_with_do_bench_cudagraph(launches: Mapping[str, Call]) -> Times:
    """`triton.testing.do_bench_cudagraph`."""
    from triton.testing import do_bench_cudagraph

    return {label: _us(do_bench_cudagraph(launch, return_mode="all")) for label, launch in launches.items()}


OPINIONS: tuple[Opinion, ...] = (
    Opinion(
        "CUPTI",
        time_with_cupti,
        "cupti",
        "pip install cupti-python",
        "cold",
        False,
        "kernel start to kernel end of a graph replay, cold cache, no launch",
    ),
    Opinion(
        "NVBench",
        time_with_nvbench,
        "cuda.bench",
        'pip install "cuda-bench[cu13]" (or cu12)',
        "cold",
        True,
        "events around a graph replay behind a blocking kernel, cold cache, launch included",
    ),
    Opinion(
        "Proton",
        time_with_proton,
        "triton.profiler",
        "pip install triton",
        "cold",
        False,
        "mean sum of kernel durations of eager launches, cold cache, neither launch nor gaps between kernels",
    ),
    Opinion(
        "do_bench",
        time_with_do_bench,
        "triton.testing",
        "pip install triton",
        "cold",
        True,
        "events around an eager launch, launch included; the L2 full of freshly written zeros",
    ),
    Opinion(
        "do_bench_cudagraph",
        time_with_do_bench_cudagraph,
        "triton.testing",
        "pip install triton",
        "warm",
        False,
        "mean of calls back to back in one graph, warm cache, no launch",
    ),
)
"""Every opinion."""

OURS = "ours"


def make_launches() -> dict[str, Call]:
    """What is timed, by label."""
    from mlabench.measure.timing.device_clock import spin

    cases = [make_case(axes) for axes in CASES]
    return {"spin of 100 us": spin(SPIN_NS), **{case.label: bind_case(case)[0] for case in cases}}


def main(name: str, path: str) -> None:
    """Time the launches in one way and write the times."""
    ways: dict[str, Callable[[Mapping[str, Call]], Any]] = {opinion.name: opinion.time for opinion in OPINIONS}
    times = {OURS: time_ours, **ways}[name](make_launches())
    Path(path).write_text(json.dumps(times), encoding="utf-8")


def _captured(launch: Call) -> Call:
    from mlabench.measure.timing.cuda import capture

    return capture(launch)


def _flush() -> None:
    import torch

    from mlabench.measure.timing.cuda import surroundings

    surroundings(torch.cuda.current_device()).flush()


def _sample_between_marks(replay: Call) -> None:
    for _ in range(SAMPLES):
        _flush()
        mark()
        replay()
        mark()


def _nvbench_function(replay: Call, torch: Any, label: str) -> Callable[[Any], None]:
    def run(state: Any) -> None:
        def launch(launch: Any) -> None:
            with torch.cuda.stream(torch.cuda.ExternalStream(launch.get_stream().addressof())):
                replay()

        state.exec(launch, batched=False)

    run.__name__ = label
    return run


def _us(times_ms: Sequence[float]) -> list[float]:
    return [1e3 * time_ms for time_ms in times_ms]


if __name__ == "__main__":
    main(*sys.argv[1:])
