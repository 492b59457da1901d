"""A report as files: the page, and the figures beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlabench.errors import NothingMeasuredError, UsageError, near_names
from mlabench.records.export import write_atomically
from mlabench.records.frame import frame, joined
from mlabench.records.store import Run
from mlabench.report.page import render_page
from mlabench.report.render import Picture, draw_pictures
from mlabench.report.series import View, make_views

FORMATS = ("html", "png", "svg")
DEFAULT_FORMATS = ("html", "png")
PAGE_NAME = "report.html"
MOST_VIEWS = 4
"""Views with figures of their own; more would bury the reader."""


def write_report(
    runs: Sequence[Run], out_dir: Path, formats: Sequence[str] = DEFAULT_FORMATS, title: str | None = None
) -> tuple[Path, ...]:
    """Write the page and the figures of the runs into `out_dir`; the paths written.

    Raises `UsageError` for an unknown format, no run, or a folder that cannot be written.
    """
    _check(runs, formats)
    _make_folder(out_dir)
    tables = [frame([run]) for run in runs]
    views = make_views(runs, tables)
    drawn = _once([(view, draw_pictures(view, _picture_formats(formats))) for view in views[:MOST_VIEWS]])
    contents: dict[str, bytes] = {}
    beside: list[dict[str, str]] = []
    for view, pictures in drawn:
        own = _files(pictures, f"-{slug(view)}" if len(views) > 1 else "", formats)
        contents |= {file: content for (_, file), content in own.items()}
        beside.append(dict(own.keys()))
    if "html" in formats:
        notes = [f"Not drawn: {view.title} ({len(view.frame)} records)." for view in views[MOST_VIEWS:]]
        page = render_page(runs, joined(tables), drawn, notes, title or _title(runs), beside)
        contents = {PAGE_NAME: page.encode(), **contents}
    for name, content in contents.items():
        write_atomically(out_dir / name, content)
    return tuple(out_dir / name for name in contents)


def slug(view: View) -> str:
    """What tells the files of this view from those of the others."""
    context = view.context
    phase = "" if context.phase == "decode" else context.phase
    scope = "" if context.hidden_size is None else f"{context.scope} {context.hidden_size}"
    text = f"{context.device_name} {context.dtype} {context.method} {phase} {scope}".lower()
    return "-".join("".join(c if c.isalnum() else " " for c in text).split())


def _check(runs: Sequence[Run], formats: Sequence[str]) -> None:
    if not runs:
        raise UsageError("a report needs at least one run directory")
    if not formats:
        raise UsageError(f"no format is asked for: write --format {','.join(DEFAULT_FORMATS)}")
    for kind in formats:
        if kind not in FORMATS:
            raise UsageError(f"unknown format {kind!r}: {near_names(kind, FORMATS)}")
    if not any(run.records for run in runs):
        raise NothingMeasuredError(f"{', '.join(run.name for run in runs)}: there are no records to report")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror or error}; choose another -o") from None


def _picture_formats(formats: Sequence[str]) -> tuple[str, ...]:
    wanted = {"png" if kind == "html" else kind for kind in formats}
    return tuple(sorted(wanted))


def _once(drawn: Sequence[tuple[View, Sequence[Picture]]]) -> list[tuple[View, list[Picture]]]:
    """The views' pictures, without those that follow from the cases alone and look like one of an earlier view."""
    shown: set[Any] = set()
    kept: list[tuple[View, list[Picture]]] = []
    for view, pictures in drawn:
        own = [picture for picture in pictures if picture.row.measured or _look(picture) not in shown]
        shown.update(_look(picture) for picture in own)
        kept.append((view, own))
    return kept


def _look(picture: Picture) -> tuple[object, ...]:
    return picture.heading, *sorted(picture.files.items())


def _files(pictures: Sequence[Picture], suffix: str, formats: Sequence[str]) -> dict[tuple[str, str], bytes]:
    """Contents by the figure's name and the file's."""
    return {
        (picture.row.name, f"{picture.row.name}{suffix}.{kind}"): content
        for picture in pictures
        for kind, content in picture.files.items()
        if kind in formats
    }


def _title(runs: Sequence[Run]) -> str:
    devices = dict.fromkeys(run.manifest.fingerprint.device_name for run in runs)
    return f"What attention costs on {' and '.join(devices)}"
