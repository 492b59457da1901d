"""The check before every latency: what it lets pass, and what not."""

import subprocess
import sys

import pytest
import torch

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.check import Expected, check, point_bytes, reference
from mlabench.measure.inputs import make_inputs, negate

CASE = make_cases({"num_q_heads": (4,), "kv_len": (8192,), "batch": (2,)})[0]


@pytest.fixture(scope="module")
def expected() -> Expected:
    return reference(CASE, make_inputs(CASE, 0, "cpu"))


def rounded(expected: Expected) -> dict[str, torch.Tensor]:
    return {"out": expected.out.bfloat16(), "lse": expected.lse.float()}


def failure_of(case: Case, outputs: dict[str, torch.Tensor], expected: Expected) -> str:
    return check(case, outputs, expected).failure


def test_the_rounded_reference_passes(expected: Expected) -> None:
    assert failure_of(CASE, rounded(expected), expected) == ""


def test_one_percent_off_fails(expected: Expected) -> None:
    outputs = rounded(expected)
    outputs["out"] *= 1.01
    assert "relative error 0.01" in failure_of(CASE, outputs, expected)


def test_one_wrong_row_of_many_fails() -> None:
    expected = Expected(torch.randn(64, 1, 128, 512).double(), torch.randn(64, 1, 128).double())
    outputs = rounded(expected)
    outputs["out"][3, 0, 7] = outputs["out"][3, 0, 8]
    outputs["out"][3, 0, 7, 256:] = expected.out[3, 0, 7, 256:]
    outputs["out"][3, 0, 7, :250] = expected.out[3, 0, 7, :250]
    assert "the worst row" in failure_of(CASE, outputs, expected)


def test_a_dropped_newest_token_fails_by_its_log_sum_exp(expected: Expected) -> None:
    inputs = make_inputs(CASE, 0, "cpu")
    inputs["kv_lens"] = inputs["kv_lens"] - 1
    shorter = reference(CASE, inputs)
    assert "log-sum-exp error" in failure_of(CASE, rounded(shorter), expected)


@pytest.mark.parametrize(("dtype", "allowed", "too_much"), [("bfloat16", 3e-3, 5e-3), ("float32", 1.5e-5, 3e-5)])
def test_keys_expanded_in_the_inputs_dtype_may_move_log_sum_exps(dtype: str, allowed: float, too_much: float) -> None:
    expected = Expected(torch.ones(1, 1, 1, 4).double(), torch.zeros(1, 1, 1).double())
    out = expected.out.to(getattr(torch, dtype))
    (expanding,) = make_cases({"form": ("recompute",), "dtype": (dtype,)})
    (absorbed,) = make_cases({"form": ("absorbed",), "dtype": (dtype,)})
    assert failure_of(expanding, {"out": out, "lse": expected.lse.float() + allowed}, expected) == ""
    assert "log-sum-exp error" in failure_of(expanding, {"out": out, "lse": expected.lse.float() + too_much}, expected)
    assert "log-sum-exp error" in failure_of(absorbed, {"out": out, "lse": expected.lse.float() + 3e-5}, expected)


@pytest.mark.parametrize("name", ["out", "lse"])
def test_a_single_nan_fails(expected: Expected, name: str) -> None:
    outputs = rounded(expected)
    outputs[name].view(-1)[5] = torch.nan
    assert "is NaN" in failure_of(CASE, outputs, expected)


def test_a_log_sum_exp_that_was_not_written_says_what_its_kernel_can_tell(expected: Expected) -> None:
    outputs = rounded(expected)
    outputs["lse"].fill_(torch.nan)
    failure = failure_of(CASE, outputs, expected)
    assert failure == (
        "log-sum-exp error is NaN: not all of `lse` was written; a kernel that does not write it says so by "
        "writes_lse=False"
    )
    assert check(CASE, outputs, expected, with_lse=False).failure == ""


def test_a_query_that_sees_nothing_must_say_so() -> None:
    expected = Expected(torch.zeros(1, 1, 1, 4).double(), torch.full((1, 1, 1), -torch.inf).double())
    assert failure_of(CASE, rounded(expected), expected) == ""
    wrong = {"out": torch.zeros(1, 1, 1, 4).bfloat16(), "lse": torch.zeros(1, 1, 1)}
    assert "log-sum-exp" in failure_of(CASE, wrong, expected)


@pytest.mark.parametrize(
    "axes",
    [
        {"variant": ("gqa",), "num_kv_heads": (2,)},
        {"form": ("absorbed",)},
        {"form": ("recompute",)},
        {"phase": ("prefill",), "form": ("absorbed",), "q_len": (20,)},
        {"phase": ("prefill",), "form": ("expanded",)},
    ],
)
def test_negated_inputs_negate_the_output_exactly(axes: dict[str, tuple[str | int, ...]]) -> None:
    case = make_cases({"num_q_heads": (4,), "kv_len": (70,), "batch": (3,), "kv_len_dist": ("ragged",), **axes})[0]
    inputs = make_inputs(case, 0, "cpu")
    before = reference(case, inputs)
    negate(case, inputs)
    after = reference(case, inputs)
    assert after.out.equal(-before.out)
    assert after.lse.equal(before.lse)


@pytest.mark.parametrize(
    ("axes", "peak_bytes"),
    [
        ({"form": ("expanded",), "num_q_heads": (64,), "kv_len": (1024,)}, 1.98e9),
        ({"form": ("absorbed",), "num_q_heads": (32,), "kv_len": (1024,)}, 1.05e9),
        ({"form": ("absorbed",), "num_q_heads": (64,), "kv_len": (2048,)}, 2.57e9),
    ],
)
def test_a_prefill_needs_what_its_reference_was_seen_to_take(
    axes: dict[str, tuple[str | int, ...]], peak_bytes: float
) -> None:
    (case,) = make_cases({"phase": ("prefill",), **axes})
    assert peak_bytes < point_bytes(case) < 1.5 * peak_bytes


def test_what_a_point_needs_is_told_without_torch() -> None:
    code = (
        "import sys; from mlabench.cases.grid import make_cases; from mlabench.measure.check import point_bytes; "
        "point_bytes(make_cases({})[0]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("axes", "numbers_per_token", "kv_heads"),
    [
        ({"variant": ("gqa",), "num_kv_heads": (2,)}, 256, 2),
        ({"form": ("absorbed",)}, 576 + 512, 1),
        ({"form": ("recompute",)}, 192 + 256, 4),
    ],
)
def test_a_decode_needs_its_tensors_and_those_of_the_longest_request(
    axes: dict[str, tuple[str | int, ...]], numbers_per_token: int, kv_heads: int
) -> None:
    (case,) = make_cases({"num_q_heads": (4,), "kv_len": (70,), "batch": (3,), "kv_len_dist": ("ragged",), **axes})
    outputs = 8 * 3 * 4 * (case.specs[-4].shape[-1] + 1)
    longest, rows = max(case.kv_lens), 4 // kv_heads
    temporaries = kv_heads * (numbers_per_token * (12 * longest + 8 * rows) + 25 * longest * rows)
    assert point_bytes(case) == case.memory_bytes + outputs + temporaries
