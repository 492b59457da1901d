"""What an exception makes of a point: its line names the kernel's own line, and what a known error means."""

import json
from collections.abc import Callable

import pytest
import torch

from mlabench.measure.failure import describe_failure
from mlabench.measure.inputs import UNUSED_PAGE_ID

TABLE = torch.full((2,), UNUSED_PAGE_ID)


def follow_an_unused_entry() -> None:
    torch.zeros(6)[TABLE]


def fail_in_the_standard_library() -> None:
    json.loads("{")


def reason_of(launch: Callable[[], None]) -> str:
    with pytest.raises((IndexError, ValueError)) as raised:
        launch()
    found = describe_failure(raised.value)
    assert found["status"] == "error"
    return str(found["reason"])


@pytest.mark.parametrize("launch", [follow_an_unused_entry, fail_in_the_standard_library])
def test_the_place_is_the_kernels_innermost_line(launch: Callable[[], None]) -> None:
    line = launch.__code__.co_firstlineno + 1
    assert f" (in {launch.__name__}, test_failure.py line {line})" in reason_of(launch)


def test_an_unused_entry_of_the_block_table_is_told() -> None:
    reason = reason_of(follow_an_unused_entry)
    assert reason.endswith("): it followed an entry of the block table behind a request's last page")


def test_a_triton_kernel_without_a_gpu_is_told_of_the_interpreter() -> None:
    found = describe_failure(RuntimeError("0 active drivers ([]). There should only be one."))
    assert "set TRITON_INTERPRET=1" in found["reason"]


def test_an_error_from_nowhere_has_no_place() -> None:
    assert describe_failure(RuntimeError()) == {"status": "error", "reason": "RuntimeError"}
