"""One point: every outcome becomes a status with its reason, and only a checked output gets a latency."""

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.kernels import find_kernel, kernels_for
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
        ("raising", "error", "ValueError: this kernel always fails"),
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


def test_case_larger_than_memory_is_oom_before_anything_is_allocated() -> None:
    record = run("mla_decode_torch", small_case(kv_len=1 << 40))
    assert record.status == "oom"
    assert "the tensors need 2.53 PB" in record.reason


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
    from mlabench.measure.inputs import make_inputs

    inputs = make_inputs(small_case(kv_len=70, batch=1), 0, "cpu")
    last_page = inputs["kv_cache"][inputs["block_table"][0, 1]]
    assert not last_page[:6].isnan().any()
    assert last_page[6:].isnan().all()
