"""A chart: its panels, and the table of rows that fills them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlabench.report.charts.plots import Panel


@dataclass(frozen=True, slots=True)
class Chart:
    """Plots side by side, filled from one table: that of the view's points, or `rows` of the chart's own."""

    panels: tuple[Panel, ...]
    table: str = "points"
    rows: Mapping[str, Any] | None = None
