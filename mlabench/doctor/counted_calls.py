"""The process that runs under ncu: one call of each case, of which nothing else is counted.

`python -m mlabench.doctor.counted_calls --cases FILE`, a JSON list of axes by name. An entry with `"warm": true` is
called without a flush before it.
"""

import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlabench.doctor.launches import bind_case, make_case, mark
from mlabench.measure.timing.method import Call, nothing

WARMUP_CALLS = 3


def main(option: str, path: str) -> None:
    """Call each case once between profiler start and stop, behind a mark."""
    assert option == "--cases", option
    for axes in json.loads(Path(path).read_text(encoding="utf-8")):
        call_counted(axes)


def call_counted(axes: Mapping[str, Any]) -> None:
    """One case; one that cannot be called leaves its mark alone, so that the others keep their places."""
    import torch

    try:
        launch = _prepared({name: value for name, value in axes.items() if name != "warm"}, bool(axes.get("warm")))
    except Exception:
        traceback.print_exc()
        launch = nothing
    torch.cuda.synchronize()
    torch.cuda.profiler.start()  # type: ignore[no-untyped-call]
    mark()
    launch()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]
    del launch
    torch.cuda.empty_cache()


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
    main(*sys.argv[1:])
