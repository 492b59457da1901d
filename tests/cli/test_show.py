"""Tables: what they are given is shown as it is, and whole."""

import pytest

from mlabench.cli.show import NoProgress, PlainProgress, print_table, progress


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a[0]", "run"), [("[bold]", "results/[x]/[/y]")], title="[dim]")
    output = capsys.readouterr().out
    assert all(text in output for text in ("a[0]", "[bold]", "results/[x]/[/y]", "[dim]"))


def test_what_is_long_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 150
    print_table(("one", "two"), [(long, long)])
    output = capsys.readouterr().out
    assert output.count("x") == 300
    assert "…" not in output


def test_progress_is_lines_without_a_terminal_and_nothing_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2, 1) as loud, progress(2, 1, quiet=True) as quiet:
        assert isinstance(loud, PlainProgress)
        assert isinstance(quiet, NoProgress)
        for shown in (loud, quiet):
            shown.start("a step")
            shown.finish("a step: done")
    assert capsys.readouterr().err == "[2/2] a step: done\n"
