"""The log of stamps as it is read, on the CPU: no kernel is launched."""

import torch

from mlabench.measure.timing.device_clock import STAMPS, Stamps


def stamps(*spans: tuple[int, int, int]) -> Stamps:
    """A log in which each span took so many nanoseconds and cycles, and moved on by so many SMs."""
    log = Stamps.__new__(Stamps)
    log._log = torch.zeros(STAMPS, 3, dtype=torch.int64)
    for number, span in enumerate(spans):
        log._log[2 * number + 1] = torch.tensor(span)
    return log


def test_the_clock_is_cycles_over_time() -> None:
    assert stamps((1000, 1980, 0), (2000, 2400, 0)).clocks_mhz(2) == (1980.0, 1200.0)


def test_a_span_over_two_sms_or_without_time_has_no_clock() -> None:
    assert stamps((1000, 1980, 0), (1000, 1980, 1)).clocks_mhz(2) is None
    assert stamps((0, 1980, 0)).clocks_mhz(1) is None


def test_more_spans_than_there_is_room_for_have_no_clock() -> None:
    full = stamps(*((1000, 1980, 0) for _ in range(STAMPS // 2)))
    assert full.clocks_mhz(STAMPS // 2) == (1980.0,) * (STAMPS // 2)
    assert full.clocks_mhz(STAMPS // 2 + 1) is None
