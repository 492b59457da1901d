"""The small line of a record's samples."""

import pytest

from mlabench.records.frame import frame
from mlabench.report.samples import GREATEST, LEAST, LEVELS, MOST_POINTS, SHAPE, shape, with_samples
from tests.factories import make_case, make_record, make_run


def heights(samples: list[float]) -> list[int]:
    return [LEVELS.index(character) for character in shape(samples)]


def test_a_line_goes_from_the_lowest_level_to_the_highest_in_the_order_taken() -> None:
    assert heights([10.0, 20.0, 15.0]) == [0, len(LEVELS) - 1, (len(LEVELS) - 1) // 2 + 1]


@pytest.mark.parametrize(("samples", "least_span"), [([100.0] * 5, 0), ([100.0, 100.2] * 3, 3)])
def test_what_hardly_scatters_stays_in_the_middle(samples: list[float], least_span: int) -> None:
    found = heights(samples)
    assert max(found) - min(found) == least_span
    assert {min(found), max(found)} <= set(range(13, 19))


def test_of_many_samples_a_line_has_few_points_and_no_outlier_is_lost() -> None:
    samples = [100.0 + place % 3 for place in range(1000)]
    samples[517] = 180.0
    found = heights(samples)
    assert len(found) == MOST_POINTS
    assert found.index(len(LEVELS) - 1) == 517 * MOST_POINTS // 1000
    assert sum(level > 3 for level in found) == 1


def test_a_record_without_a_time_has_no_line() -> None:
    timed, failed = (
        make_record(make_case(kv_len=1024), latency_us=10.0, noise=0.05),
        make_record(make_case(), status="oom"),
    )
    table = with_samples(frame([make_run(None, [timed, failed])]), [timed, failed])
    assert timed.timing is not None
    assert [len(table[SHAPE][0]), table[SHAPE][1]] == [20, None]
    assert table[[LEAST, GREATEST]].to_numpy().tolist() == [
        [min(timed.timing.samples_us), max(timed.timing.samples_us)],
        [None, None],
    ]
