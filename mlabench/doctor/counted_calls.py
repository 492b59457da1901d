"""The process that runs under ncu: one call of each case, of which nothing else is counted.

`python -m mlabench.doctor.counted_calls --cases FILE --workspaces FILE`: the cases are a JSON list of axes by name, of
which an entry with `"warm": true` is called without a flush before it; the kernels' workspaces, in bytes, are written.
"""

import argparse
import json
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlabench.doctor.launches import bind_case, make_case, mark
from mlabench.measure.kernels import workspace_bytes
from mlabench.measure.timing.method import Call, nothing

WARMUP_CALLS = 3


def main() -> None:
    """Call each case once between profiler start and stop, behind a mark."""
    parser = argparse.ArgumentParser(prog="python -m mlabench.doctor.counted_calls")
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--workspaces", type=Path, required=True)
    asked = parser.parse_args()
    sizes = [call_counted(axes) for axes in json.loads(asked.cases.read_text(encoding="utf-8"))]
    asked.workspaces.write_text(json.dumps(sizes), encoding="utf-8")


def call_counted(axes: Mapping[str, Any]) -> int | None:
    """One case; one that cannot be called leaves its mark alone, so that the others keep their places.

    Returns the size of the kernel's workspace.
    """
    import torch

    try:
        launch = _prepared({name: value for name, value in axes.items() if name != "warm"}, bool(axes.get("warm")))
    except Exception:
        traceback.print_exc()
        launch = nothing
    size = workspace_bytes(launch)
    torch.cuda.synchronize()
    torch.cuda.profiler.start()  # type: ignore[no-untyped-call]
    mark()
    launch()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]
    del launch
    torch.cuda.empty_cache()
    return size


def _prepared(axes: Mapping[str, Any], warm: bool) -> Call:
    """The launch, warmed up, and the cache brought to the state that a sample of it finds."""
    import torch

    from mlabench.measure.timing.cuda import surroundings

    launch, before_sample = bind_case(make_case(axes))
    for _ in range(WARMUP_CALLS):
        before_sample()
        launch()
    before_sample()
    surroundings(torch.cuda.current_device()).flush()
    if warm:
        launch()
    return launch


if __name__ == "__main__":
    main()
