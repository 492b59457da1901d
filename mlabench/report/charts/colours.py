"""The colours of a map's cells."""

import math

from mlabench.report.figures.crossover import COLOURS, MOST_RATIO

STEPS = 12
"""Shades on either side of a tie."""

STRENGTH = 0.75
"""Of the darkest shade, so that the text on it stays legible."""


def cell_colour(ratio: float) -> str:
    """From the rival's colour over white at 1 to that of MLA, by the logarithm of the ratio."""
    share = max(-1.0, min(1.0, math.log(ratio) / math.log(MOST_RATIO)))
    shade = round(share * STEPS) / STEPS
    end = COLOURS[2] if shade > 0 else COLOURS[0]
    parts = [int(end[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * abs(shade) * STRENGTH):02x}" for part in parts)
