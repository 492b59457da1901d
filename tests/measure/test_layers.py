"""Points of scope `layer`: checked as a whole and by their parts, which are timed apart."""

import math
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
import torch

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.measure.check import LAYER_LIMIT_FACTOR, RELATIVE_ERROR_LIMITS, check, point_bytes
from mlabench.measure.config import SweepConfig
from mlabench.measure.inputs import make_inputs, negate
from mlabench.measure.interleave import interleave
from mlabench.measure.kernels import Kernel, find_kernel, kernels_for
from mlabench.measure.layers import layer_reference
from mlabench.measure.peers.launch import OwnOutputs
from mlabench.measure.plan import Point, estimate_point_s
from mlabench.measure.runner import Runner
from mlabench.measure.sides import AskedSide
from mlabench.measure.timing.fake import FakeTimer
from mlabench.records.pairs import Plan
from mlabench.records.record import Record

pytestmark = pytest.mark.usefixtures("faulty_kernels")

SMALL = {"scope": "layer", "num_q_heads": 4, "kv_len": 70, "batch": 2, "hidden_size": 256, "q_lora_rank": 96}
FORMS = ("absorbed", "premultiplied", "recompute", "expanded")


def small_case(**axes: object) -> Case:
    values: dict[str, Any] = {**SMALL, **axes}
    return make_cases({name: (value,) for name, value in values.items() if value is not None})[0]


def run(kernel: str | Kernel, case: Case | None = None, seed: int = 0) -> Record:
    runner = Runner("cpu", FakeTimer((5.0, 6.0, 7.0)), seed)
    return runner.run(case or small_case(), find_kernel(kernel) if isinstance(kernel, str) else kernel)


def torch_kernel(case: Case) -> Kernel:
    (kernel,) = kernels_for(case, "cpu", ["torch"])
    return kernel


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(
    "axes",
    [
        *({"form": form} for form in FORMS),
        {"form": "absorbed", "q_lora_rank": None},
        {"form": "premultiplied", "q_lora_rank": None, "q_len": 3},
        {"form": "recompute", "kv_len_dist": "ragged", "batch": 5, "q_len": 2, "page_size": 16},
        {"variant": "mha"},
        {"variant": "gqa", "num_kv_heads": 2, "kv_len_dist": "ragged", "batch": 5, "q_len": 2},
        {"variant": "mqa", "kv_len": 1},
        {"phase": "prefill", "form": "absorbed", "kv_len_dist": "ragged", "q_len": 20, "batch": 5},
        {"phase": "prefill", "form": "premultiplied", "q_len": 33},
        {"phase": "prefill", "form": "expanded"},
        {"phase": "prefill", "variant": "gqa", "num_kv_heads": 2, "page_size": 16},
    ],
)
def test_every_form_passes_the_check_whole_and_in_parts(axes: dict[str, object], dtype: str) -> None:
    case = small_case(**axes, dtype=dtype)
    record = run(torch_kernel(case), case)
    assert (record.status, record.reason) == ("ok", "")
    assert record.relative_error is not None
    assert 0 < record.relative_error < LAYER_LIMIT_FACTOR * RELATIVE_ERROR_LIMITS[dtype]
    assert record.lse_error is None
    assert [part.name for part in record.parts] == [part.name for part in case.parts]
    for timed, counted in zip(record.parts, case.parts, strict=True):
        assert timed.latency_us == 6.0
        assert (timed.weight_bytes, timed.flops, timed.bytes_moved) == (
            counted.weight_bytes,
            counted.flops,
            counted.bytes_moved,
        )
    assert set(record.phases_s) == {"inputs", "reference", "bind", "check", "measure", "parts"}


def test_the_limit_of_a_layer_is_its_own() -> None:
    case = small_case()
    expected = layer_reference(case, make_inputs(case, 0, "cpu"))
    for factor, passes in ((1 + 0.9e-2, True), (1 + 1.1e-2, False)):
        outputs = {"out": expected.out * factor, **expected.rows}
        assert (check(case, outputs, expected).failure == "") is passes


@pytest.mark.parametrize("form", FORMS)
def test_negated_inputs_negate_a_layer_exactly(form: str) -> None:
    case = small_case(form=form, kv_len_dist="ragged", batch=3)
    inputs = make_inputs(case, 0, "cpu")
    before = layer_reference(case, inputs)
    negate(case, inputs)
    after, wanted = layer_reference(case, inputs), before.negated()
    assert after.out.equal(wanted.out)
    assert all(row.equal(wanted.rows[name]) for name, row in after.rows.items())


@pytest.mark.parametrize("form", FORMS)
def test_the_reference_leaves_traps_where_the_new_rows_belong(form: str) -> None:
    case = small_case(form=form)
    inputs = make_inputs(case, 0, "cpu")
    before = {name: value.isnan().sum() for name, value in inputs.items() if value.is_floating_point()}
    expected = layer_reference(case, inputs)
    for name, row in expected.rows.items():
        assert inputs[name].isnan().sum() == before[name] + row.numel()
        assert not row.isnan().any()


def test_forms_have_the_same_weights_for_a_seed() -> None:
    weights = {form: make_inputs(small_case(form=form), 3, "cpu") for form in FORMS}
    for name in ("q_a_proj", "q_a_norm", "kv_a_proj", "kv_a_norm"):
        assert all(inputs[name].equal(weights["absorbed"][name]) for inputs in weights.values())
    for name in ("q_b_proj", "kv_b_proj", "o_proj"):
        assert all(weights[form][name].equal(weights["absorbed"][name]) for form in ("recompute", "expanded"))
        assert name not in weights["premultiplied"]
    up = weights["absorbed"]["kv_b_proj"][:, 128:].double()
    heads_out = weights["absorbed"]["o_proj"].double().unflatten(1, (4, 128))
    premultiplied = torch.einsum("hvc,ohv->hco", up, heads_out)
    error = (weights["premultiplied"]["o_premultiplied"] - premultiplied).norm() / premultiplied.norm()
    assert float(error) < 4e-3
    other = make_inputs(small_case(), 4, "cpu")
    assert not other["o_proj"].equal(weights["absorbed"]["o_proj"])


def test_what_is_handed_on_stays_of_order_one() -> None:
    case = small_case(hidden_size=1024, q_lora_rank=512)
    runner = Runner("cpu", FakeTimer((5.0,)))
    bound = runner.bind(torch_kernel(case), runner.prepare(case))
    for name in ("unabsorbed_q", "latent"):
        assert float(bound.outputs[name].float().std()) == pytest.approx(1, rel=0.2), name
    for name in ("q", "output"):
        assert 0.01 < float(bound.outputs[name].float().std()) < 3, name


@pytest.mark.parametrize(
    ("kernel", "status", "reason"),
    [
        ("wrong", "incorrect", "is over 0.01 for bfloat16"),
        ("stale", "incorrect", "relative error is NaN: not all of the output was written"),
        ("remembering", "incorrect", "the timed call's relative error"),
        ("unwritten_row", "incorrect", "is NaN"),
        ("nan_element", "incorrect", "is NaN"),
        ("raising", "error", "ValueError: this kernel always fails"),
        ("narrow", "unsupported", "only 17 heads"),
        ("mla_decode_triton", "unsupported", "runs on cuda, not on cpu"),
    ],
)
def test_faults_of_a_core_are_its_layers(kernel: str, status: str, reason: str) -> None:
    record = run(kernel)
    assert (record.status, record.timing, record.parts) == (status, None, ())
    assert reason in record.reason


def late(**tensors: torch.Tensor) -> Callable[[], None]:
    """Right in what is called as a whole, and wrong thereafter."""
    from mla_kernels.mla_decode_torch import bind

    launch, calls = bind(**tensors), [0]

    def run() -> None:
        launch()
        calls[0] += 1
        if calls[0] > 3:
            tensors["out"].mul_(2)

    return run


def test_parts_that_are_wrong_by_themselves_make_the_point_incorrect() -> None:
    record = run(Kernel("late", "mine", "mla_absorbed", f"{__name__}:late", ("cpu",), writes_lse=False))
    assert record.status == "incorrect"
    assert record.reason.startswith("its parts' relative error")
    assert record.timing is None


def own_outputs(**tensors: torch.Tensor) -> OwnOutputs:
    """As a peer that allocates what it returns."""
    from mla_kernels.mla_decode_torch import bind

    def run() -> Mapping[str, torch.Tensor]:
        out = torch.full_like(tensors["out"], math.nan)
        bind(**tensors | {"out": out})()
        return {"out": out}

    return OwnOutputs({}, run)


@pytest.mark.parametrize("form", ["absorbed", "premultiplied"])
def test_a_peer_that_allocates_what_it_returns_is_a_layers_core_too(form: str) -> None:
    peer = Kernel("own", "mine", "mla_absorbed", f"{__name__}:own_outputs", ("cpu",), writes_lse=False, peer=True)
    record = run(peer, small_case(form=form))
    assert (record.status, record.reason) == ("ok", "")
    assert len(record.parts) == len(small_case(form=form).parts)


def stale_outputs(**tensors: torch.Tensor) -> OwnOutputs:
    """The same, that returns what its first call gave."""
    first = own_outputs(**tensors)
    first()
    return OwnOutputs({}, lambda: first.latest)


def test_what_a_peer_returns_is_poisoned_before_a_call() -> None:
    record = run(Kernel("stale_own", "mine", "mla_absorbed", f"{__name__}:stale_outputs", ("cpu",), writes_lse=False))
    assert record.status == "incorrect"
    assert record.reason.startswith("relative error is NaN")


@pytest.mark.parametrize("writes", [0, 1])
def test_a_part_that_does_not_write_the_cache_in_every_call_shows(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from mla_kernels import layer_torch
    from mla_kernels.launch import Launch

    bind = layer_torch.bind_cache_write

    def bind_lazy(**arguments: Any) -> Launch:
        calls = [bind(**arguments)] * writes
        return Launch({}, 0, lambda: calls.pop()() if calls else None)

    monkeypatch.setattr(layer_torch, "bind_cache_write", bind_lazy)
    record = run("mla_decode_torch")
    assert record.status == "incorrect"
    assert "is NaN" in record.reason


def test_a_cache_written_without_rotation_shows_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token of many hardly moves the output, so that the new rows are held to the reference too."""
    from mla_kernels import mla_layer_torch

    monkeypatch.setattr(mla_layer_torch, "rotate", unturned_keys(mla_layer_torch.rotate))
    record = run("mla_decode_torch", small_case(kv_len=4000, batch=1))
    assert record.status == "incorrect"
    assert record.reason.startswith("new rows of kv_cache: relative error")


def unturned_keys(rotate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Leaves the shared key as it is."""

    def wrong(x: torch.Tensor, *arguments: Any, **more: Any) -> torch.Tensor:
        return x if x.shape[1] == 1 else rotate(x, *arguments, **more)

    return wrong


def test_memory_of_the_weights_counts_before_anything_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    case = small_case(kv_len=1)
    weights = sum(spec.nbytes for spec in case.specs if spec.role == "weight")
    need = point_bytes(case)
    assert need > case.memory_bytes + 4 * weights  # float64 copies of bfloat16
    monkeypatch.setattr("mlabench.measure.runner.free_memory_bytes", lambda _device: need)
    assert run("mla_decode_torch", case).status == "ok"
    monkeypatch.setattr("mlabench.measure.runner.free_memory_bytes", lambda _device: need - 1)
    record = run("mla_decode_torch", case)
    assert (record.status, record.phases_s) == ("oom", {})


def test_layers_are_compared_in_turns_as_cores_are() -> None:
    sides = [AskedSide(find_kernel(name)) for name in ("mla_decode_torch", "wrong", "slow")]
    plan = Plan((6, 12), math.inf, 0.05, 0.0, 0.01)
    wrong, slow = interleave(Runner("cpu", FakeTimer((5.0,))), small_case(), sides[0], sides[1:], plan)
    assert (slow.base.status, slow.candidate.status, wrong.candidate.status) == ("ok", "ok", "incorrect")
    assert len(slow.blocks) >= 6


def test_sources_without_layers_are_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'mla_kernels.layer'", name="mla_kernels.layer")

    monkeypatch.setattr("mlabench.measure.runner.bind_layer", lacking)
    record = run("mla_decode_torch")
    assert record.status == "unavailable"
    assert "these sources have no mla_kernels.layer" in record.reason


def test_a_case_is_the_same_beside_kernels_of_a_commit_without_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    case = small_case()
    specs, parts = case.specs, case.parts
    monkeypatch.setitem(sys.modules, "mla_kernels.layer_parts", ModuleType("mla_kernels.layer_parts"))
    assert (case.specs, case.parts) == (specs, parts)
    assert small_case(variant="mha").flops > 0


def test_kernels_of_a_layer_are_those_of_its_core() -> None:
    for form in FORMS:
        case = small_case(form=form)
        assert list(kernels_for(case, "cuda", ["peers"])) == list(kernels_for(case.core, "cuda", ["peers"]))
        assert list(kernels_for(case, "cuda")) == list(kernels_for(case.core, "cuda")) != []


def test_a_layer_is_estimated_to_take_longer_than_its_core() -> None:
    case, config = small_case(), SweepConfig(device="cpu")
    points = [Point(each, torch_kernel(each)) for each in (case, case.core)]
    layer_s, core_s = (estimate_point_s(point, config, "cpu", "") for point in points)
    assert layer_s > core_s
