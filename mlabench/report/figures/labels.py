"""Places for small labels beside the points of a logarithmic plot, so that none covers another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

AXES_POINTS = (450.0, 230.0)
"""About the size of a plot's axes, in typographic points; only the room between labels depends on it."""

CHARACTER_POINTS = 7.0
LINE_POINTS = 13.0
MARKER_POINTS = 5.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Label:
    """A text for the point at `x`, `y`, in its series' colour."""

    x: float
    y: float
    text: str
    colour: str

    @property
    def dark_colour(self) -> str:
        """The series' colour, darkened until small text in it is legible on white."""
        parts = [int(self.colour[i : i + 2], 16) for i in (1, 3, 5)]
        return "#" + "".join(f"{round(part * 0.65):02x}" for part in parts)

    @property
    def width(self) -> float:
        """About the width of the text, in points."""
        return CHARACTER_POINTS * len(self.text)


def free_offsets(
    labels: Sequence[Label], x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> list[tuple[float, float]]:
    """For each label where its left middle goes, in points from its marker: the nearest place that covers nothing."""
    centres = [(_place(one.x, x_limits, AXES_POINTS[0]), _place(one.y, y_limits, AXES_POINTS[1])) for one in labels]
    m = MARKER_POINTS
    taken: list[Box] = [(x - m, y - m, x + m, y + m) for x, y in centres]
    offsets = []
    for label, centre in zip(labels, centres, strict=True):
        boxes = {offset: _box(centre, offset, label.width) for offset in _candidates(label.width)}
        offset = next((offset for offset, box in boxes.items() if _is_free(box, taken)), next(iter(boxes)))
        taken.append(boxes[offset])
        offsets.append(offset)
    return offsets


def _candidates(width: float) -> list[tuple[float, float]]:
    """Right and below first: under a roofline's slope that side is free."""
    right, left, centre = 8.0, -8.0 - width, -width / 2
    under = [(right, -6.0 - step * LINE_POINTS) for step in (1, 2)]
    return [(right, -6.0), (centre, -LINE_POINTS), (left, 8.0), *under, (right, 6.0), (centre, LINE_POINTS)]


def _place(value: float, limits: tuple[float, float], length: float) -> float:
    low, high = limits
    return length * math.log(value / low) / math.log(high / low)


def _box(centre: tuple[float, float], offset: tuple[float, float], width: float) -> Box:
    x, y = centre[0] + offset[0], centre[1] + offset[1]
    return (x, y - LINE_POINTS / 2, x + width, y + LINE_POINTS / 2)


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= AXES_POINTS[0] and box[3] <= AXES_POINTS[1]
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
    )
