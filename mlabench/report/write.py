"""A report as files: the page, and the figures beside it."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlabench.errors import NothingMeasuredError, UsageError, near_names
from mlabench.records.export import write_atomically
from mlabench.records.frame import frame, joined
from mlabench.records.store import Run
from mlabench.report.content import Content, DrawnMove, DrawnView
from mlabench.report.figures import FIGURES
from mlabench.report.markdown import render_markdown
from mlabench.report.moved import Moved
from mlabench.report.names import MOVED, chosen_names
from mlabench.report.page import render_page
from mlabench.report.render import Picture, draw_moved, draw_pictures
from mlabench.report.series import View, make_views

FORMATS = ("html", "png", "svg", "md")
DEFAULT_FORMATS = ("html", "png")
PAGE_NAME, MARKDOWN_NAME = "report.html", "report.md"
MOST_VIEWS = 4
"""Views with figures of their own; more would bury the reader."""


def write_report(
    runs: Sequence[Run],
    out_dir: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    title: str | None = None,
    *,
    figures: Sequence[str] = (),
    moved: Sequence[Moved] = (),
) -> tuple[Path, ...]:
    """Write the page, the Markdown and the figures of the runs into `out_dir`; the paths written.

    `figures` are those to be drawn, by name, all without any; `moved` is what moved between the runs. Raises
    `UsageError` for an unknown format or figure, no run, or a folder that cannot be written.
    """
    _check(runs, formats)
    chosen = chosen_names(figures)
    _make_folder(out_dir)
    tables = [frame([run]) for run in runs]
    views = make_views(runs, tables)
    shown, files = _draw_views(views, formats, chosen)
    moves, moved_files = _draw_moves(moved, formats, chosen)
    notes = [_not_drawn(view, runs) for view in views[MOST_VIEWS:]]
    content = Content(title or _title(runs), runs, joined(tables), shown, moves, notes, chosen)
    texts = {PAGE_NAME: ("html", render_page), MARKDOWN_NAME: ("md", render_markdown)}
    written = {name: render(content).encode() for name, (kind, render) in texts.items() if kind in formats}
    written |= files | moved_files
    for name, text in written.items():
        write_atomically(out_dir / name, text)
    return tuple(out_dir / name for name in written)


def slug(view: View) -> str:
    """What tells the files of this view from those of the others."""
    context = view.context
    phase = "" if context.phase == "decode" else context.phase
    layer = " ".join(context.models) or context.hidden_size
    scope = "" if context.hidden_size is None else f"{context.scope} {layer}"
    text = f"{context.device_name} {context.dtype} {context.method} {phase} {scope}".lower()
    return "-".join("".join(c if c.isalnum() else " " for c in text).split())


def _draw_views(
    views: Sequence[View], formats: Sequence[str], chosen: Sequence[str]
) -> tuple[list[DrawnView], dict[str, bytes]]:
    """The first views drawn, and the contents of the files that lie beside the page."""
    drawn = _once([(view, _pictures(view, formats, chosen)) for view in views[:MOST_VIEWS]])
    shown: list[DrawnView] = []
    files: dict[str, bytes] = {}
    for view, pictures in drawn:
        own = _files(pictures, f"-{slug(view)}" if len(views) > 1 else "", formats)
        files |= {file: content for (_, file), content in own.items()}
        shown.append(DrawnView(view, pictures, _linked(own)))
    return shown, files


def _draw_moves(
    moved: Sequence[Moved], formats: Sequence[str], chosen: Sequence[str]
) -> tuple[list[DrawnMove], dict[str, bytes]]:
    """The same of what moved between runs."""
    shown: list[DrawnMove] = []
    files: dict[str, bytes] = {}
    for place, one in enumerate(moved, start=1):
        made = draw_moved(one, _picture_formats(formats)) if MOVED in chosen else {}
        stem = f"{MOVED}-{place}" if len(moved) > 1 else MOVED
        own = {(MOVED, f"{stem}.{kind}"): content for kind, content in made.items() if kind in formats}
        files |= {file: content for (_, file), content in own.items()}
        shown.append(DrawnMove(one, made, _linked(own)))
    return shown, files


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
    """The page may have to show a picture itself; Markdown only names those that are written."""
    wanted = {"png" if kind == "html" else kind for kind in formats}
    return tuple(sorted(wanted - {"md"}))


def _pictures(view: View, formats: Sequence[str], chosen: Sequence[str]) -> tuple[Picture, ...]:
    kinds = _picture_formats(formats)
    return draw_pictures(view, kinds, [row for row in FIGURES if row.name in chosen]) if kinds else ()


def _not_drawn(view: View, runs: Sequence[Run]) -> str:
    """What is said of a view too many: how many records it holds, and the command that draws it."""
    context, own = view.context, set(view.frame["run"])
    paths = " ".join(shlex.quote(str(run.path)) for run in runs if run.name in own)
    names = ("dtype", "phase", "scope")
    held = [f'{name} == "{getattr(context, name)}"' for name in names]
    held += [f"hidden_size == {context.hidden_size}"] if context.hidden_size else []
    command = f"mlabench report {paths} --where {shlex.quote(' and '.join(held))}"
    return f"Not drawn, as {MOST_VIEWS} others are: {view.title} ({len(view.frame)} records). To draw it: {command}"


def _linked(files: Mapping[tuple[str, str], bytes]) -> dict[str, str]:
    """The file to link by the figure's name: of several formats the PNG, which every reader shows."""
    return dict(sorted(files, key=lambda key: key[1].endswith(".png")))


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
