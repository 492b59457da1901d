"""What a report says, whatever it is written as: the runs, their drawn views, and what moved between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlabench.records.store import Run
from mlabench.report.moved import Moved
from mlabench.report.names import FIGURE_NAMES
from mlabench.report.render import Picture
from mlabench.report.series import View

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class DrawnView:
    """A view with its pictures; `beside` has the files that lie beside the page, by the names of their figures."""

    view: View
    pictures: Sequence[Picture]
    beside: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DrawnMove:
    """What moved between two runs, its picture by format, and, as in a view, the file of it that lies beside."""

    moved: Moved
    files: Mapping[str, bytes]
    beside: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Content:
    """A report's title, its runs and the table of all their records, what is drawn of them, and what is not.

    `notes` tell what was left out, `chosen` are the names of the figures that were asked for.
    """

    title: str
    runs: Sequence[Run]
    table: "pandas.DataFrame"
    views: Sequence[DrawnView]
    moves: Sequence[DrawnMove] = ()
    notes: Sequence[str] = ()
    chosen: Sequence[str] = FIGURE_NAMES
