"""The plot of a prediction: which lines, under which names, along which axis."""

from pathlib import Path
from typing import Any

import pytest

from mlabench.cases.axes import Value
from mlabench.errors import UsageError
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import NO_MODEL, choose_models
from mlabench.predict.rows import make_points, predict_rows
from mlabench.report import predicted


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Plots the rows of some axes and gives the figure's axes back."""
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    make = predicted.new_figure
    monkeypatch.setattr(predicted, "new_figure", lambda *size: kept.append(make(*size)) or kept[-1])

    def draw(*models: str, file: Path | None = None, tps: tuple[int, ...] = (1,), **axes: tuple[Value, ...]) -> Any:
        points = make_points(choose_models(models, file) or (NO_MODEL,), axes, tps=tps)
        predicted.plot_rows(list(predict_rows(points, choose_gpus(["h200"]))), tmp_path / "plot.svg")
        return kept[-1].axes[0]

    return draw


def names(axes: Any) -> list[str]:
    return [line.get_label() for line in axes.get_lines()]


def test_a_line_for_each_variant_in_its_own_look(drawn: Any) -> None:
    axes = drawn(variant=("gqa", "mla"), kv_len=(1024, 2048, 4096))
    assert names(axes) == ["gqa-8", "mla absorbed"]
    assert axes.get_xlabel() == "kv_len (cached tokens)"
    assert [line.get_color() for line in axes.get_lines()] == ["#0072B2", "#D55E00"]
    assert "h200-sxm" in axes.get_title()


def test_names_tell_what_differs_and_no_more(drawn: Any) -> None:
    axes = drawn("deepseek-v3", "llama-3.1-405b", batch=(1, 8), kv_len=(1024, 2048, 4096))
    assert names(axes) == [
        *("deepseek-v3 mla absorbed, batch 1", "deepseek-v3 mla absorbed, batch 8"),
        *("llama-3.1-405b gqa-8, batch 1", "llama-3.1-405b gqa-8, batch 8"),
    ]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}) == 4


def test_lines_of_one_variant_are_told_apart_in_grey(drawn: Any) -> None:
    axes = drawn("deepseek-v3", "llama-3.1-405b", batch=(1, 8), kv_len=(1024, 2048, 4096))
    looks = [(line.get_marker(), line.get_linestyle()) for line in axes.get_lines()]
    assert len(set(looks)) == 4


def test_many_lines_become_panels_of_one_setting_each(drawn: Any) -> None:
    settings = {"batch": (1, 32, 128), "kv_len": (1024, 2048, 4096, 8192)}
    figure = drawn("deepseek-v3", "llama-3.1-405b", tps=(1, 8), **settings).figure
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"tp {tp}, batch {batch}" for tp in (1, 8) for batch in (1, 32, 128)]
    assert {tuple(names(axes)) for axes in figure.axes} == {("deepseek-v3 mla absorbed", "llama-3.1-405b gqa-8")}
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    # In the colours of their variants, whichever panel.
    colours = {tuple(line.get_color() for line in axes.get_lines()) for axes in figure.axes}
    assert colours == {("#D55E00", "#0072B2")}


def test_panels_and_their_legend_do_not_overlap(drawn: Any) -> None:
    figure = drawn("deepseek-v3", "llama-3.1-405b", batch=(1, 2, 4, 8, 16), kv_len=tuple(1024 * n for n in range(1, 7)))
    shown = [axes for axes in figure.figure.axes if axes.get_title()]
    (legend,) = figure.figure.legends
    top = legend.get_window_extent().y1
    assert len(shown) == 5
    assert all(axes.get_tightbbox().y0 >= top for axes in shown)
    assert [axes.get_xlabel() for axes in shown[2:]] == ["kv_len (cached tokens)"] * 3


def test_two_models_of_one_variant_have_colours_of_their_own(drawn: Any) -> None:
    axes = drawn("deepseek-v3", "llama-3.1-405b", "qwen2.5-72b", kv_len=(1024, 2048, 4096))
    assert [line.get_color() for line in axes.get_lines()] == ["#D55E00", "#0072B2", "#56B4E9"]


@pytest.mark.parametrize(("letters", "broken"), [(16, False), (24, False), (200, True)])
def test_the_legend_stays_in_the_figure(drawn: Any, tmp_path: Path, letters: int, broken: bool) -> None:
    models = tmp_path / "models.toml"
    one = '["{}"]\nvariant = "mqa"\nnum_layers = 3\nnum_q_heads = 4\nhead_dim = 16\n'
    models.write_text("".join(one.format(letter * letters) for letter in "mw"))
    axes = drawn(file=models, batch=(1, 128), kv_len=(1024, 2048, 4096))
    (legend,) = axes.figure.legends
    box, whole = legend.get_window_extent(), axes.figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1
    assert any("\n" in name for name in names(axes)) == broken


def test_ranks_lie_along_x_where_they_vary_most(drawn: Any) -> None:
    axes = drawn("llama-3.1-405b", tps=(1, 2, 4, 8))
    assert axes.get_xlabel() == "tp (ranks)"
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[1, 2, 4, 8]]


def test_whole_prompts_are_one_line(drawn: Any) -> None:
    axes = drawn(phase=("prefill",), kv_len=(1024, 2048, 4096))
    assert names(axes) == ["mla absorbed"]


def test_more_lines_than_can_be_told_apart_are_refused(drawn: Any) -> None:
    with pytest.raises(UsageError, match="would have 22 lines, and takes 1 to 21"):
        drawn(batch=tuple(range(1, 23)), kv_len=tuple(range(1024, 1024 + 23)))
