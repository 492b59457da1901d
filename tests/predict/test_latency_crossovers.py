"""Where a model's latencies are predicted to cross those of other variants, and where that is left open."""

from dataclasses import fields
from functools import cache

import pytest

from mlabench.cases.case import Case
from mlabench.predict.calibrate import Calibration
from mlabench.predict.hardware import Gpu, choose_gpus
from mlabench.predict.latency import Latency
from mlabench.predict.latency_crossovers import LatencyCrossover, find_latency_crossovers
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import make_points
from tests.predict.test_calibrate import calibration


class Made(Calibration):
    """GQA-8 takes 10 us; MLA as much at 3000 tokens, more below, with 10% of doubt on either side."""

    def latency_us(self, case: Case, gpu: Gpu) -> Latency:
        assert gpu.name == self.gpu
        middle = 10.0 * (3000 / case.kv_len) ** 0.5 if case.variant.name == "mla" else 10.0
        return middle, middle / 1.1, middle * 1.1


@cache
def made() -> Made:
    return Made(**{field.name: getattr(calibration(), field.name) for field in fields(Calibration)})


def found(run: Calibration, *models: str, tp: int = 1, batch: int = 1, **axes: object) -> dict[str, LatencyCrossover]:
    chosen = {"batch": (batch,), **{name: (value,) for name, value in axes.items()}}
    points = make_points(choose_models(models), chosen, tps=(tp,))  # type: ignore[arg-type]
    crossovers = find_latency_crossovers(points, run, choose_gpus(["h200"])[0])
    return {crossover.against: crossover for crossover in crossovers}


def test_a_crossing_is_found_where_it_was_put_and_so_are_the_lengths_of_doubt() -> None:
    one = found(made(), "deepseek-v3")["gqa-8"]
    assert one.predicted == (pytest.approx(3000, rel=0.01),)
    assert (one.leads_first, one.shortest, one.longest) == (False, 1024, 131072)
    assert one.unsure_from is not None
    assert one.unsure_to is not None
    # A ratio's doubt is that of both times: log(1.1) * sqrt(2) each way, of the root of the length.
    reach = 1.1 ** (2 * 2**0.5)
    assert one.unsure_from == pytest.approx(3000 / reach, rel=0.1)
    assert one.unsure_to == pytest.approx(3000 * reach, rel=0.1)


def test_the_other_side_tells_the_same_the_other_way_round() -> None:
    other = found(made(), "llama-3.1-405b")["mla absorbed"]
    assert other.predicted == found(made(), "deepseek-v3")["gqa-8"].predicted
    assert other.leads_first


def test_a_committed_crossing_is_measured_where_the_doubt_is() -> None:
    one = found(calibration(), "deepseek-v3")["gqa-8"]
    assert one.measured is not None
    assert one.unsure_from is not None
    assert one.unsure_to is not None
    assert one.unsure_from <= one.measured[0] <= one.unsure_to
    assert one.measured_leads_first is one.leads_first is False


def test_on_eight_ranks_a_kv_head_is_never_overtaken_and_no_rival_of_itself() -> None:
    one = found(calibration(), "deepseek-v3", tp=8, batch=128)["gqa-8"]
    assert (one.leads_first, one.predicted, one.measured) == (False, (), ())
    assert set(found(calibration(), "llama-3.1-405b", tp=8)) == {"mha", "mla absorbed"}


def test_what_the_run_does_not_hold_is_none() -> None:
    other = found(calibration(), "qwen2.5-72b", tp=8)["mla absorbed"]
    assert (other.measured, other.measured_leads_first) == (None, None)


def test_the_length_of_a_point_changes_nothing() -> None:
    assert found(calibration(), "deepseek-v3", kv_len=4096) == found(calibration(), "deepseek-v3", kv_len=65536)


def test_a_run_without_such_kernels_tells_nothing() -> None:
    assert found(calibration("prefix"), "deepseek-v3") == {}
