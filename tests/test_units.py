"""Numbers as text."""

import pytest

from mlabench import units


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (units.format_bytes, 1152, "1.15 kB"),
        (units.format_bytes, 65_536, "65.5 kB"),
        (units.format_bytes, 512, "512 B"),
        (units.format_bytes, 999_600, "1 MB"),
        (units.format_bytes, 68_719_476_736, "68.7 GB"),
        (units.format_bytes, None, "–"),
        (units.format_latency, 27.44, "27.4 us"),
        (units.format_latency, 999.4, "999 us"),
        (units.format_latency, 1041.9, "1.04 ms"),
        (units.format_latency, 2_100_000, "2.1 s"),
        (units.format_latency, None, "–"),
        (units.format_seconds, 8.2, "8 s"),
        (units.format_seconds, 200, "3 min 20 s"),
        (units.format_seconds, 7500, "2 h 5 min"),
        (units.format_bandwidth, 4.24e12, "4.24 TB/s"),
        (units.format_flop_rate, 282e12, "282 TFLOP/s"),
        (units.format_energy, 0.00273, "2.73 mJ"),
        (units.format_energy, 80.4e-6, "80.4 uJ"),
        (units.format_energy, 1.5, "1.5 J"),
        (units.format_energy, None, "–"),
        (units.format_percent, 0.934, "93%"),
        (units.format_usd, 0.1724, "$0.172"),
        (units.format_usd, 12.5, "$12.5"),
        (units.format_usd, 1250.4, "$1,250"),
        (units.format_usd, None, "–"),
        (units.format_chance, 0.0104, "0.010"),
        (units.format_chance, 0.0009, "under 0.001"),
        (units.format_whole, 3.31, "3"),
        (units.format_whole, 8567.4, "8.57k"),
        (units.format_whole, None, "–"),
        (units.format_ratio, 3.556, "3.56x"),
        (units.format_ratio, 56.9, "56.9x"),
        (units.format_tokens, 131072, "128k"),
        (units.format_tokens, 1000, "1000"),
    ],
)
def test_format(function: object, value: float | None, text: str) -> None:
    assert function(value) == text  # type: ignore[operator]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, 1.0, 2.0], "▁▁█"),
        ([8.0, 4.0, 2.0, 1.0], "█▆▃▁"),
        # Noise is no mountain.
        ([100.0, 100.5, 101.0, 100.0], "▁▁▁▁"),
        ([100.0, 105.0], "▁▅"),
        ([100.0, 110.1], "▁█"),
        ([5.0], "▁"),
    ],
)
def test_sparkline(values: list[float], text: str) -> None:
    assert units.format_sparkline(values) == text


def test_intervals_are_as_long_as_what_is_known() -> None:
    assert units.format_ratio_range(2.2481, 2.0417, 2.4779) == "2.25x [2.04, 2.48]"
    assert units.format_ratio_range(None, None, None) == "–"
    assert units.format_latency_range(895.7, 1041.9) == "896 us to 1.04 ms"
    assert units.format_latency_range(21.23, 24.01) == "21.2 to 24 us"
    assert units.format_latency_range(None, None) == "–"
