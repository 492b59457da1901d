"""Crossovers of the committed runs lie where the halves of the run predict them, by most of the pairs."""

import math
from dataclasses import fields, replace

import pytest

from mlabench.cases.case import Case
from mlabench.cases.grid import make_cases
from mlabench.predict.calibrate import Calibration
from mlabench.predict.measured_crossovers import MeasuredCrossover, find_measured_crossovers
from tests.predict.test_calibrate import calibration


def crossovers(name: str = "decode") -> tuple[MeasuredCrossover, ...]:
    return find_measured_crossovers(calibration(name), tuple(calibration(name).measured_us))


def test_crossovers_of_the_decode_baseline_agree_within_a_grid_step() -> None:
    found = [crossover for crossover in crossovers() if crossover.against in ("mha", "gqa-8", "mqa")]
    settings = {(c.against, c.num_q_heads, c.batch) for c in found}
    assert len(found) == len(settings) == 3 * 3 * 4
    assert sum(crossover.agrees for crossover in found) >= 0.95 * len(found)
    crossing = [crossover for crossover in found if crossover.measured]
    assert len(crossing) >= 3
    assert sum(crossover.agrees for crossover in crossing) >= 0.75 * len(crossing)


def test_new_tokens_behind_a_prefix_agree_within_a_grid_step() -> None:
    found = crossovers("prefix")
    assert {(c.batch, c.kv_len) for c in found} == {(1, 8192), (1, 32768), (8, 8192), (8, 32768)}
    for crossover in found:
        assert (crossover.axis, crossover.q_len, crossover.against) == ("q_len", None, "mla recompute")
        assert crossover.leads_first
        assert crossover.predicted_leads_first
        assert len(crossover.measured) == 1
        assert crossover.agrees


def test_layers_are_held_against_layers_of_their_width_alone() -> None:
    assert {crossover.against for crossover in crossovers("layer")} == {"mla premultiplied"}


class Made(Calibration):
    """Times in which MLA overtakes GQA-8 from 3000 tokens on, and is predicted to do so from so many times that."""

    TIMES = 1.0

    def blind_latency_us(self, case: Case) -> float | None:
        return made_us(case, self.TIMES)


class MadeLate(Made):
    TIMES = 1.9


class MadeTooLate(Made):
    TIMES = 2.1


def made_us(case: Case, times: float = 1.0) -> float:
    return 10.0 if case.variant.name == "gqa" else 10.0 * (3000 * times / case.kv_len) ** 0.5


def made(kind: type[Made], phase: str = "decode") -> MeasuredCrossover:
    lengths = (1024, 2048, 4096, 8192, 16384)
    cases = make_cases({"variant": ("gqa", "mla"), "form": ("absorbed",), "kv_len": lengths, "phase": (phase,)})
    known = {field.name: getattr(calibration(), field.name) for field in fields(Calibration)}
    (found,) = find_measured_crossovers(kind(**known | {"measured_us": {case: made_us(case) for case in cases}}), cases)
    return found


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_crossing_is_found_where_it_was_put(phase: str) -> None:
    found = made(Made, phase)
    assert found.measured == (pytest.approx(3000),)
    assert found.predicted == (pytest.approx(3000),)
    assert (found.leads_first, found.predicted_leads_first, found.axis) == (False, False, "kv_len")
    assert found.q_len == (None if phase == "prefill" else 1)
    assert found.steps_apart == pytest.approx(0)
    assert found.to_json()["agrees"] is True


def test_within_a_grid_step_is_near_enough() -> None:
    assert made(MadeLate).predicted == (pytest.approx(1.9 * 3000),)
    assert made(MadeLate).steps_apart == pytest.approx(math.log2(1.9))
    assert made(MadeLate).agrees
    assert made(MadeTooLate).steps_apart == pytest.approx(math.log2(2.1))
    assert not made(MadeTooLate).agrees


def test_what_is_not_given_is_not_compared() -> None:
    cases = tuple(calibration().measured_us)
    some = [case for case in cases if case.batch == 1 and case.variant.name in ("gqa", "mla")]
    found = find_measured_crossovers(calibration(), some)
    assert {crossover.against for crossover in found} == {"gqa-8", "mla recompute"}
    assert {crossover.batch for crossover in found} == {1}
    assert find_measured_crossovers(calibration(), [case for case in cases if case.kv_len <= 2048]) == ()
    assert find_measured_crossovers(calibration(), [replace(case, batch=7) for case in cases]) == ()
