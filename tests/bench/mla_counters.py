"""What binds MLA decode by the GPU's own counters: one cold call of each point of a study, under ncu.

`python -m tests.bench.mla_counters --config FILE --out COUNTERS` counts the cases of a sweep's configuration on a GPU;
`python -m tests.bench.mla_counters COUNTERS` prints them as Markdown. ncu empties the caches before each pass, times
each kernel by itself, and leaves clocks alone.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlabench.cases.case import Case
from mlabench.doctor.launches import mark, split_at_marks
from mlabench.doctor.ncu import ncu_command, parse_ncu
from mlabench.machine.provenance import take_provenance
from mlabench.units import format_tokens
from tests.bench.markdown import table

METRICS = {
    "time_ns": "gpu__time_duration.sum",
    "dram_read_bytes": "dram__bytes_read.sum",
    "dram_percent": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm_read_bytes": "l1tex__m_xbar2l1tex_read_bytes.sum",
    "l2_percent": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "tensor_percent": "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "no_instruction_percent": "smsp__warp_issue_stalled_no_instruction_per_warp_active.pct",
    "long_scoreboard_percent": "smsp__warp_issue_stalled_long_scoreboard_per_warp_active.pct",
    "barrier_percent": "smsp__warp_issue_stalled_barrier_per_warp_active.pct",
}
"""By the name under which it is stored. Of a stall: the share of all warps' time."""

HEADERS = (
    "heads", "batch x kv_len", "kernel", "us", "read from DRAM", "DRAM", "read by SMs", "L2", "tensor cores",
    "no instruction", "long scoreboard", "barrier",
)  # fmt: skip


def main() -> None:
    """Count, or read, and print a line a kernel."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mla_counters")
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        call_each(asked.config)
        return
    counted = count(asked.config) if asked.config else json.loads(asked.file.read_text(encoding="utf-8"))
    if asked.out:
        asked.out.write_text(json.dumps(counted, indent=1) + "\n", encoding="utf-8")
    print(page(counted))


def cases_of(config: Path) -> list[Case]:
    """The cases of a sweep's configuration."""
    from mlabench.measure.config import load_config
    from mlabench.measure.plan import chosen_cases

    return list(chosen_cases(load_config(config)))


def call_each(config: Path) -> None:
    """Call `mla_decode` once for each case between profiler start and stop, behind a mark."""
    import torch

    from mla_kernels import mla_decode
    from mlabench.measure.inputs import make_inputs, make_outputs

    for case in cases_of(config):
        launch = mla_decode.bind(
            **make_inputs(case, 0, "cuda"), **make_outputs(case, "cuda"), softmax_scale=case.variant.softmax_scale
        )
        launch()
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        mark()
        launch()
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()


def count(config: Path) -> dict[str, Any]:
    """The counters of each case's kernels, with the commit that they are of."""
    child = [sys.executable, "-m", "tests.bench.mla_counters", "--child", "--config", str(config)]
    command = ncu_command("ncu", child, tuple(METRICS.values()), flush_caches=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    counted = parse_ncu(done.stdout, tuple(METRICS.values()))
    groups = split_at_marks((kernel.kernel, kernel) for kernel in counted)
    points = [
        {
            "num_q_heads": case.variant.num_q_heads,
            "batch": case.batch,
            "kv_len": case.kv_len,
            "kv_len_dist": case.kv_len_dist,
            "kernels": [
                {"name": kernel.kernel, **{name: kernel.values[metric] for name, metric in METRICS.items()}}
                for kernel in group
            ],
        }
        for case, group in zip(cases_of(config), groups, strict=True)
    ]
    return {"commit": take_provenance().commit, "metrics": METRICS, "points": points}


def page(counted: dict[str, Any]) -> str:
    """A table of all kernels, as Markdown."""
    lines = []
    for point in sorted(counted["points"], key=lambda p: (p["num_q_heads"], p["batch"], p["kv_len"])):
        ragged = " ragged" if point["kv_len_dist"] == "ragged" else ""
        for kernel in point["kernels"]:
            cells = (
                str(point["num_q_heads"]),
                f"{point['batch']} x {format_tokens(point['kv_len'])}{ragged}",
                kernel["name"].removesuffix("_kernel"),
                f"{kernel['time_ns'] / 1e3:.1f}",
                f"{kernel['dram_read_bytes'] / 1e6:.1f} MB",
                f"{kernel['dram_percent']:.0f}%",
                f"{kernel['sm_read_bytes'] / 1e6:.1f} MB",
                *(
                    f"{kernel[name]:.0f}%"
                    for name in (
                        "l2_percent", "tensor_percent", "no_instruction_percent", "long_scoreboard_percent",
                        "barrier_percent",
                    )
                ),
            )  # fmt: skip
            lines.append(cells)
    return table(HEADERS, lines)


if __name__ == "__main__":
    main()
