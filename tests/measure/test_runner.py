"""One point: every outcome becomes a status with its reason, and only a checked output gets a latency."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.kernels import Kernel, find_kernel, kernels_for
from mlabench.measure.runner import Runner
from mlabench.measure.timing.fake import FakeTimer
from mlabench.records.record import Record

pytestmark = pytest.mark.usefixtures("faulty_kernels")

SMALL = {"num_q_heads": (4,), "kv_len": (70,), "batch": (2,)}


def small_case(**axes: object) -> Case:
    return make_cases({**SMALL, **{name: (value,) for name, value in axes.items()}})[0]  # type: ignore[arg-type]


def run(kernel: str, case: Case | None = None) -> Record:
    return Runner("cpu", FakeTimer((5.0, 6.0, 7.0))).run(case or small_case(), find_kernel(kernel))


@pytest.mark.parametrize(
    "axes",
    [
        {"variant": "mha"},
        {"variant": "gqa", "num_kv_heads": 2},
        {"variant": "mqa", "dtype": "float16"},
        {"variant": "mla", "form": "absorbed"},
        {"variant": "mla", "form": "recompute"},
        {"variant": "mla", "form": "expanded"},
        {"variant": "mla", "form": "absorbed", "q_len": 3, "dtype": "float32"},
        {"variant": "mla", "form": "absorbed", "kv_len_dist": "ragged", "batch": 5},
        {"variant": "gqa", "num_kv_heads": 2, "kv_len_dist": "ragged", "q_len": 2, "page_size": 16},
        {"phase": "prefill", "variant": "gqa", "num_kv_heads": 2, "kv_len_dist": "ragged", "q_len": 20, "batch": 5},
        {"phase": "prefill", "variant": "mqa", "page_size": 16, "dtype": "float16"},
        {"phase": "prefill", "form": "absorbed", "q_len": 33, "dtype": "float32"},
        {"phase": "prefill", "form": "absorbed", "kv_len_dist": "ragged", "batch": 5},
        {"phase": "prefill", "form": "expanded", "q_len": 7},
    ],
)
def test_torch_kernels_pass_the_check_on_every_contract(axes: dict[str, object]) -> None:
    case = small_case(**axes)
    (kernel,) = kernels_for(case, "cpu", ["torch"])
    record = Runner("cpu", FakeTimer((5.0, 6.0, 7.0))).run(case, kernel)
    assert (record.status, record.reason) == ("ok", "")
    assert record.timing is not None
    assert record.timing.samples_us == (5.0, 6.0, 7.0)
    assert record.relative_error is not None
    assert 0 < record.relative_error < 4e-3


@pytest.mark.parametrize(
    ("kernel", "status", "reason"),
    [
        ("wrong", "incorrect", "is over 0.004 for bfloat16"),
        ("stale", "incorrect", "relative error is NaN: not all of the output was written"),
        ("remembering", "incorrect", "the timed call's relative error 2 is over 0.004"),
        ("nonsense", "error", "ValueError: Out of range float values are not JSON compliant"),
        ("drifting", "incorrect", "the timed call's relative error 0.02"),
        ("drifting", "incorrect", "right in the first call, wrong in later ones, whose inputs hold other values"),
        ("raising", "error", "ValueError: this kernel always fails (in bind_raising, faulty_kernels.py line "),
        ("hungry", "oom", "no room"),
        ("narrow", "unsupported", "only 17 heads"),
        ("absent", "unavailable", "a_package_that_is_not_there is not installed: pip install"),
        ("mla_decode_triton", "unsupported", "runs on cuda, not on cpu"),
    ],
)
def test_outcomes_have_a_status_and_no_latency(kernel: str, status: str, reason: str) -> None:
    record = run(kernel)
    assert record.status == status
    assert reason in record.reason
    assert "\n" not in record.reason
    assert record.timing is None


def test_memory_that_a_failure_still_holds_is_freed_before_a_case_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [True]
    monkeypatch.setattr("mlabench.measure.runner.gc.collect", held.clear)
    monkeypatch.setattr("mlabench.measure.runner.free_memory_bytes", lambda _device: 0 if held else 1 << 40)
    assert run("mla_decode_torch").status == "ok"
    assert not held


def test_case_larger_than_memory_is_oom_before_anything_is_allocated() -> None:
    record = run("mla_decode_torch", small_case(kv_len=1 << 40))
    assert record.status == "oom"
    assert "the tensors need 17 PB with those of the check" in record.reason


def test_the_float64_outputs_of_a_long_prompt_count_before_anything_is_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = small_case(phase="prefill", kv_len=500)
    # Copies in float64 of keys and values, of queries and outputs; three arrays of scores with their mask.
    outputs, rows = 8 * 2 * 500 * 4 * (512 + 1), 4 * 500
    temporaries = (576 + 512) * (12 * 500 + 8 * rows) + 25 * 500 * rows
    need = case.memory_bytes + outputs + max(2 * outputs, temporaries)
    monkeypatch.setattr("mlabench.measure.runner.free_memory_bytes", lambda _device: need)
    assert run("mla_prefill_torch", case).status == "ok"
    monkeypatch.setattr("mlabench.measure.runner.free_memory_bytes", lambda _device: need - 1)
    record = run("mla_prefill_torch", case)
    assert (record.status, record.phases_s) == ("oom", {})


def test_record_says_where_the_time_went() -> None:
    record = run("mla_decode_torch")
    assert set(record.phases_s) == {"inputs", "reference", "bind", "check", "measure"}
    assert record.wall_s is not None
    assert sum(record.phases_s.values()) <= record.wall_s


def test_inputs_are_the_same_for_a_seed_and_differ_between_seeds() -> None:
    from mlabench.measure.inputs import make_inputs

    case = small_case()
    first, again, other = (make_inputs(case, seed, "cpu")["q"] for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_unused_slots_hold_traps() -> None:
    from mlabench.measure.inputs import fill_unused_slots, make_inputs

    case = small_case(kv_len=70, batch=1)
    inputs = make_inputs(case, 0, "cpu")
    before = inputs["kv_cache"].clone()
    last_page = inputs["kv_cache"][inputs["block_table"][0, 1]]
    assert not last_page[:6].isnan().any()
    assert last_page[6:].isnan().all()
    fill_unused_slots(case, inputs, 3.0)
    assert (last_page[6:] == 3.0).all()
    assert inputs["kv_cache"].equal(before.nan_to_num(3.0))
    fill_unused_slots(case, inputs, math.nan)
    assert inputs["kv_cache"].isnan().equal(before.isnan())


def test_slots_are_filled_on_every_page_of_a_ragged_batch() -> None:
    from mlabench.measure.inputs import make_inputs

    case = small_case(variant="gqa", num_kv_heads=2, batch=5, kv_len=90, kv_len_dist="ragged", page_size=16)
    inputs = make_inputs(case, 0, "cpu")
    unused = sum(-length % 16 for length in case.kv_lens)
    assert unused > 0
    for name in ("k_cache", "v_cache"):
        assert inputs[name].isnan().all(-1).all(-1).sum() == unused
        assert inputs[name].isnan().any(-1).any(-1).sum() == unused


def test_a_kernel_that_reads_unused_slots_is_given_finite_ones_and_the_record_says_so() -> None:
    reading = Kernel("reading", "mine", "mla_absorbed", f"{__name__}:bind_reading", ("cpu",), writes_lse=False)
    runner = Runner("cpu", FakeTimer((5.0, 6.0)))
    case = small_case(kv_len=70)
    assert runner.run(case, reading).status == "incorrect"
    record = runner.run(case, replace(reading, reads_unused_slots=True))
    assert (record.status, record.reason) == ("ok", "")
    assert record.kernel_config == {"unused_slots": "finite"}
    # The inputs are the same ones, and for the next kernel they hold NaN again.
    assert runner.run(case, reading).status == "incorrect"


def test_a_bind_that_returns_no_callable_is_told() -> None:
    forgetful = Kernel("forgetful", "mine", "mla_absorbed", f"{__name__}:bind_forgetful", ("cpu",))
    record = Runner("cpu", FakeTimer((5.0,))).run(small_case(), forgetful)
    returned = f"{__name__}:bind_forgetful returned NoneType, and not a callable that launches the work"
    assert (record.status, record.reason) == ("error", returned)


def bind_forgetful(**_: torch.Tensor) -> None:
    return None


def bind_reading(**tensors: torch.Tensor) -> Callable[[], None]:
    from mla_kernels.mla_decode_torch import bind

    launch = bind(**tensors)

    def run() -> None:
        launch()
        tensors["out"].add_(0.0 * tensors["kv_cache"].sum())

    return run


def test_prefill_inputs_say_where_each_requests_queries_start() -> None:
    from mlabench.measure.inputs import make_inputs

    case = small_case(phase="prefill", batch=5, q_len=30, kv_len=90, kv_len_dist="ragged", page_size=16)
    inputs = make_inputs(case, 0, "cpu")
    starts = inputs["q_starts"]
    assert starts.dtype == torch.int32
    assert tuple(starts.diff().tolist()) == case.q_lens
    assert int(starts[-1]) == len(inputs["q"]) == case.new_tokens
    assert not inputs["q"].isnan().any()
    assert inputs["kv_cache"].isnan().all(-1).sum() == sum(-length % 16 for length in case.kv_lens)
