"""A chart: its panels, and the table of rows that fills them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlabench.report.charts.plots import Panel


@dataclass(frozen=True, slots=True)
class Chart:
    """Plots side by side, filled from one table: that of the view's points, or `rows` of the chart's own.

    `others` are further tables, by the names that the panels give.
    """

    panels: tuple[Panel, ...]
    table: str = "points"
    rows: Mapping[str, Any] | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
