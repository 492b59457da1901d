"""Whole layers on the command line: swept beside their cores, reported, exported, compared and refused."""

import json
from pathlib import Path

import pytest

from mlabench.records.pairs import load_pairs
from mlabench.records.store import load_run
from mlabench.verdict.comparison import compare_two
from mlabench.verdict.point import Verdict
from tests.cli.commands import SMALL_SWEEP, call, run

DIMENSIONS = ("-a", "hidden_size=128", "-a", "q_lora_rank=64", "-a", "num_kv_heads=2", "-a", "kv_len=70")
BOTH = ("-a", "scope=core,layer", *DIMENSIONS)
FORMS = ("-a", "variant=gqa,mla", "-a", "form=absorbed,recompute,premultiplied")
NO_CORE = ("--where", 'scope == "layer" or form != "premultiplied"')


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("layers") / "run"
    done = run(*SMALL_SWEEP, *BOTH, *FORMS, *NO_CORE, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "MLA premultiplied (4 heads) layer of 128 batch 1 kv_len 70 bfloat16 · mla_decode_torch" in done.stderr
    return out


def test_every_form_is_measured_in_both_scopes(swept: Path) -> None:
    records = load_run(swept).records
    measured = [(record.case.scope, record.case.variant.form, record.kernel) for record in records]
    assert sorted(measured, key=str) == [
        ("core", "absorbed", "mla_decode_torch"),
        ("core", "recompute", "mla_recompute_decode_torch"),
        ("core", None, "grouped_decode_torch"),
        ("layer", "absorbed", "mla_decode_torch"),
        ("layer", "premultiplied", "mla_decode_torch"),
        ("layer", "recompute", "mla_recompute_decode_torch"),
        ("layer", None, "grouped_decode_torch"),
    ]
    assert {record.status for record in records} == {"ok"}
    for record in records:
        assert (record.parts != ()) is (record.case.scope == "layer")
        assert len({record.key for record in records}) == len(records)


def test_a_report_and_an_export_hold_the_parts(swept: Path, tmp_path: Path) -> None:
    done = run("report", str(swept), "-o", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "Parts of a layer" in page
    assert "whole layer of hidden size 128" in page
    done = run("export", str(swept), "--format", "json", "-o", str(tmp_path / "run.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "run.json").read_text("utf-8"))
    parts = {row["form"]: json.loads(row["parts"]) for row in rows if row["scope"] == "layer"}
    names = [part["name"] for part in parts["premultiplied"]]
    assert names == ["query_premultiplied", "latent", "cache_write", "core", "output_premultiplied"]


def test_scopes_are_points_of_their_own_in_a_comparison(swept: Path, tmp_path: Path) -> None:
    other = tmp_path / "layers"
    assert run(*SMALL_SWEEP, *DIMENSIONS, "-a", "scope=layer", "--out", str(other)).returncode == 0
    gone = {point.label for point in compare_two(swept, other).points if point.verdict is Verdict.MISSING}
    every = {point.label for point in compare_two(swept, swept).points}
    assert every - gone == {"MLA absorbed (4 heads) layer of 128 batch 1 kv_len 70 bfloat16"}
    assert "MLA absorbed (4 heads) batch 1 kv_len 70 bfloat16" in gone


def test_two_cores_are_compared_in_turns_in_a_layer(tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    words = ("ab", "mla_decode_torch", "slow", "--device", "cpu", "-a", "num_q_heads=4", "-a", "scope=layer")
    done = run(*words, *DIMENSIONS, "--max-s", "1", "--out", str(out), faulty_kernels=True)
    (pair,) = load_pairs(out)
    assert (pair.base.status, pair.candidate.status, pair.case.scope) == ("ok", "ok", "layer"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("-a", "scope=layer"),
            "needs the model's hidden_size: add --model deepseek-v3, or -a hidden_size",
        ),
        (("-a", "scope=core,layer", "-a", "form=premultiplied", "--model", "kimi-k2"), "add -a scope=layer"),
        (("-a", "scope=layr"), "scope=layr is unknown: did you mean layer"),
        (("-a", "hidden_size=0"), "hidden_size=0 must be a positive whole number"),
    ],
)
def test_bad_input_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert call(monkeypatch, "sweep", "--device", "cpu", "--dry-run", *arguments) == 2
    errors = capsys.readouterr().err.strip()
    assert words in errors
    assert len(errors.splitlines()) == 1


def test_a_dry_run_counts_the_weights(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    needs = []
    for form in ("absorbed", "premultiplied"):
        arguments = ("--model", "deepseek-v3", "-a", "scope=layer", "-a", f"form={form}", "-a", "kv_len=64")
        assert call(monkeypatch, "sweep", "--device", "cpu", "--kernel", "torch", "--dry-run", *arguments) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "layer of 7168" in line]
        needs.append(float(line.split(" GB")[0].split()[-1]))
    # bfloat16 and float64 of 187 and of 598 million weights
    assert needs[0] == pytest.approx(1.87, abs=0.05)
    assert needs[1] == pytest.approx(5.98, abs=0.1)


@pytest.mark.parametrize("name", ["scope", "hidden_size", "q_lora_rank", "form"])
def test_axes_are_listed(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "list", "axes") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [name]]
    words = {"scope": "core|layer", "form": "premultiplied"}.get(name, "the model's, for scope=layer")
    assert words in line
