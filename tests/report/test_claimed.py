"""The page's table of claims."""

from pathlib import Path

import pytest

from mlabench.claims.ledger import HOLDS, QUALIFIED, WRONG, Claim, load_ledger
from mlabench.records.store import Run
from mlabench.report import claimed
from mlabench.report.claimed import BADGES, ClaimRow, claim_table
from mlabench.report.write import write_report
from tests.factories import make_case, make_record, make_run
from tests.report.test_write import Page

BY_WORDS = {claim.quote: claim for claim in load_ledger()}


def decode(mla_us: float, gqa_us: float, mha_us: float, device: str = "cuda") -> Run:
    times = {"mla": mla_us, "gqa": gqa_us, "mha": mha_us}
    records = [
        make_record(make_case(variant=name, num_q_heads=heads, kv_len=1024), latency_us=time, device=device)
        for name, time in times.items()
        for heads in (16, 128)
    ]
    return make_run(Path("made-up"), records, device)


def speed(run: Run) -> ClaimRow:
    return next(row for row in claim_table([run]).rows if row.quote.startswith("speed: MLA very fast"))


@pytest.mark.parametrize(
    ("run", "verdict"), [(decode(1, 2, 3), HOLDS), (decode(2, 1, 3), QUALIFIED), (decode(3, 2, 1), WRONG)]
)
def test_the_run_s_own_times_decide(run: Run, verdict: str) -> None:
    row = speed(run)
    assert (row.verdict, row.badge, row.judged_by) == (verdict, BADGES[verdict], "made-up")


def test_what_the_run_judges_comes_first_and_what_it_cannot_is_counted() -> None:
    table = claim_table([decode(1, 2, 3)])
    kinds = [BY_WORDS[row.quote].kind for row in table.rows]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"measured", "analytic"}
    assert len(table.rows) + table.unchecked + table.untestable == len(BY_WORDS)
    assert table.summary.startswith(f"{len(table.rows)} claims: ")
    assert table.unchecked
    assert {row.judged_by for row in table.rows} == {"made-up", "arithmetic"}


def test_a_run_that_judges_none_leaves_the_analytic_ones() -> None:
    table = claim_table([make_run(None, [])])
    assert {row.judged_by for row in table.rows} == {"arithmetic"}
    assert table.unchecked == sum(claim.kind == "measured" for claim in BY_WORDS.values())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    (only,) = write_report([decode(2, 1, 3)], tmp_path_factory.mktemp("claims"), ["html"])
    return Page(only.read_text("utf-8"))


def test_the_page_shows_each_with_its_verdict_words_result_and_source(page: Page) -> None:
    rows = claim_table([decode(2, 1, 3)]).rows
    shown = [page.cells[start : start + 5] for start in range(0, 5 * len(rows), 5)]
    assert shown == [[row.verdict, f'"{row.quote}"', row.finding, row.source, row.judged_by] for row in rows]


def test_the_section_stands_behind_the_figures(page: Page) -> None:
    places = [page.text.index(text) for text in ("KV-cache bytes per token", "What is said of MLA", "All records")]
    assert places == sorted(places)
    assert "more wait for runs of other kinds" in page.text


def test_hostile_words_are_escaped(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "</td><script>1</script>"
    hostile = Claim("a.1", words, words, "", "analytic", HOLDS, "fine", load_ledger()[0].readings[:1])
    monkeypatch.setattr(claimed, "load_ledger", lambda: (hostile,))
    (only,) = write_report([decode(1, 2, 3)], tmp_path, ["html"])
    shown = Page(only.read_text("utf-8"))
    assert shown.tags.count("script") == page.tags.count("script")
    assert f'"{words}"' in shown.cells
