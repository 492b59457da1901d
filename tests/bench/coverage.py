"""How often intervals of consecutive samples hold the long-run median, over real kernels. Needs a GPU to record.

`python -m tests.bench.coverage --out FILE` records long traces; `python -m tests.bench.coverage FILE` sums them up.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mlabench.doctor.coverage import WINDOW, judge_coverage
from mlabench.doctor.launches import bind_case, make_case
from mlabench.doctor.spinning import Limits
from mlabench.machine.provenance import take_provenance
from mlabench.measure.timing.cuda_graph import CudaGraphTimer

SAMPLES = 4000

POINTS: tuple[dict[str, str | int], ...] = (
    {"variant": "mla", "num_q_heads": 16, "batch": 1, "kv_len": 1024},
    {"variant": "mla", "num_q_heads": 16, "batch": 8, "kv_len": 8192},
    {"variant": "mla", "num_q_heads": 64, "batch": 32, "kv_len": 4096},
    {"variant": "mla", "num_q_heads": 128, "batch": 8, "kv_len": 8192},
    {"variant": "gqa", "num_q_heads": 64, "batch": 8, "kv_len": 4096},
    {"variant": "gqa", "num_q_heads": 128, "batch": 32, "kv_len": 8192},
    {"variant": "mha", "num_q_heads": 64, "batch": 8, "kv_len": 4096},
    {"variant": "mqa", "num_q_heads": 128, "batch": 16, "kv_len": 8192},
)

KINDS = ("fixed", "adaptive")
"""Windows of so many samples, and windows as long as sampling would have made them."""


def main() -> None:
    """Record, or read, and print a line a point and one of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    study = json.loads(arguments.file.read_text(encoding="utf-8")) if arguments.file else record()
    for point in study["points"]:
        shares = ", ".join(f"{kind} {covered / windows:.1%}" for kind, (covered, windows) in counts(point).items())
        print(f"{point['label']:55} {median(point['times_us']):9.2f} us  drift {drift(point):+.2%}  {shares}")
    for kind, share in pooled(study["points"]).items():
        print(f"{kind}: {share:.1%}")
    if arguments.out:
        arguments.out.write_text(json.dumps(study) + "\n", encoding="utf-8")


def record() -> dict[str, Any]:
    """Consecutive cold samples of every point."""
    return {"commit": take_provenance().commit, "points": [_record(axes) for axes in POINTS]}


def counts(point: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Intervals that hold the point's median, and all of them, by kind of window."""
    findings = judge_coverage(point["times_us"], Limits())
    return {
        kind: (finding.data["covered"], finding.data["windows"]) for kind, finding in zip(KINDS, findings, strict=True)
    }


def pooled(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The share over the points, each counted alike."""
    shares = [{kind: covered / windows for kind, (covered, windows) in counts(point).items()} for point in points]
    return {kind: sum(share[kind] for share in shares) / len(shares) for kind in KINDS}


def drift(point: dict[str, Any]) -> float:
    """How far the median of the last quarter lies above that of the first."""
    times_us, quarter = point["times_us"], len(point["times_us"]) // 4
    return median(times_us[-quarter:]) / median(times_us[:quarter]) - 1


def _record(axes: dict[str, str | int]) -> dict[str, Any]:
    case = make_case(axes)
    launch, before = bind_case(case)
    timer = CudaGraphTimer()
    call = timer.prepare(launch)
    timer.warm_up(call, before)
    times_us: list[float] = []
    while len(times_us) < SAMPLES:
        times_us += timer.sample(call, before, WINDOW).times_us
    return {"label": case.label, "times_us": times_us}


if __name__ == "__main__":
    main()
