"""Where a ratio crosses 1, along which lengths it is level, and how far a prediction lies from there."""

import pytest

from mlabench.predict.zones import Zone, crossings, steps_apart, zones


def test_crossings_are_interpolated_in_the_logarithm() -> None:
    assert crossings([0.5, 2.0]) == (0.5,)
    assert crossings([0.5, 2.0, 4.0, 0.25], first=-1) == (-0.5, 1.5)
    assert crossings([1.2, 1.5]) == ()


@pytest.mark.parametrize(
    ("ratios", "found"),
    [
        ([2.0, 3.0, 4.0], ()),
        ([0.5, 2.0, 4.0], (Zone(0.5, 0.5, flips=True),)),
        # Level at both sides of the crossing, and one length more.
        ([0.5, 0.96, 1.04, 1.01, 2.0], (Zone(1, 3, flips=True),)),
        # Level at an end, without a crossing.
        ([1.02, 1.5, 2.0], (Zone(0, 0, flips=False),)),
        # Crosses and comes back along level lengths.
        ([1.5, 1.02, 0.98, 1.02, 1.5], (Zone(1, 3, flips=False),)),
        # Crosses twice, far from level.
        ([2.0, 0.5, 2.0], (Zone(0.5, 0.5, flips=True), Zone(1.5, 1.5, flips=True))),
    ],
)
def test_zones_reach_over_level_lengths(ratios: list[float], found: tuple[Zone, ...]) -> None:
    assert [(zone.start, zone.stop, zone.flips) for zone in zones(ratios)] == [
        (pytest.approx(zone.start), pytest.approx(zone.stop), zone.flips) for zone in found
    ]


@pytest.mark.parametrize(
    ("measured", "predicted", "apart"),
    [
        ([2, 3, 4], [3, 3, 3], 0),
        ([2, 3, 4], [0.5, 0.5, 0.5], None),
        ([0.5, 2, 4, 8], [0.5, 2, 4, 8], 0),
        ([0.5, 2, 4, 8], [0.25, 0.5, 2, 8], 1),
        ([0.5, 2, 4, 8], [0.1, 0.25, 0.5, 2], None),
        # Only one of the two crosses, though the ends are near.
        ([0.5, 2, 4, 8], [2, 2, 4, 8], None),
        ([2, 3, 4, 5], [0.9, 3, 4, 5], None),
        # Level at its beginning: the prediction may cross there, or not.
        ([1.04, 3, 4, 5], [0.9, 3, 4, 5], 0.08757),
        ([1.04, 3, 4, 5], [1.1, 3, 4, 5], 0),
        # Level along three lengths: anywhere along them, or a step further, is as good.
        ([0.5, 0.97, 0.99, 1.02, 2], [0.5, 2, 2, 2, 2], 0.5),
        ([0.5, 0.97, 0.99, 1.02, 2], [0.5, 0.5, 0.5, 0.5, 2], 0.5),
        ([0.5, 0.97, 0.99, 1.02, 2], [0.5, 0.5, 0.5, 0.5, 0.5], None),
        # The crossing is there, and so is another.
        ([0.5, 2, 4, 8, 16], [0.5, 2, 4, 8, 0.5], None),
    ],
)
def test_steps_apart(measured: list[float], predicted: list[float], apart: float | None) -> None:
    found = steps_apart(measured, predicted)
    assert found == (None if apart is None else pytest.approx(apart, abs=1e-4))


def test_a_crossing_at_an_end_may_be_predicted_beyond_it() -> None:
    measured, predicted = [0.5, 2.0, 4.0], [2.0, 2.0, 4.0]
    assert steps_apart(measured, predicted) is None
    assert steps_apart(measured, [0.5, *predicted], first=-1) == pytest.approx(1)
    # Beyond an end, where nothing was measured to cross, none is looked for.
    assert steps_apart([1.5, 2.0, 4.0], [0.8, 1.5, 2.0, 4.0], first=-1) == 0
