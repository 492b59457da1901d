"""`mlabench predict`: what it prints in each format, what it refuses, and that it needs neither torch nor a GPU."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlabench.cases.case import Case
from mlabench.records.metrics import latency_us
from mlabench.records.store import load_run
from mlabench.units import format_latency, format_number, format_ratio_range
from tests.cli.commands import ROOT, call

BASELINE = ROOT / "results" / "baselines" / "nvidia-h200" / "decode"

AXES = ("batch=1,2", "batch=1:600")
"""So few rows that a table is laid out, and so many that it is plain."""

KEYS = {
    *("model", "gpu", "variant", "form", "phase", "batch", "q_len", "kv_len", "dtype", "tp"),
    *("kv_cache_bytes_per_token_per_layer", "kv_cache_bytes_per_token", "kv_cache_bytes", "bytes_moved", "flops"),
    *("arithmetic_intensity_flops_per_byte", "floor_us", "bound"),
}


class Predict:
    """`mlabench predict ARGUMENTS` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Standard output and error."""
        assert call(self._monkeypatch, "predict", *arguments) == code
        captured = self._capsys.readouterr()
        return captured.out, captured.err

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        return json.loads(self(*arguments, "--format", "json")[0])


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Predict:
    return Predict(monkeypatch, capsys)


def measured_us() -> float:
    """What the run measured of absorbed MLA with 128 heads at batch 128 and 8k."""
    (record,) = [
        record
        for record in load_run(BASELINE).records
        if (record.case.variant.form, record.case.variant.num_q_heads) == ("absorbed", 128)
        and (record.case.batch, record.case.kv_len) == (128, 8192)
    ]
    found = latency_us(record)
    assert found is not None
    return found


def test_without_anything_the_variants_stand_side_by_side(predict: Predict) -> None:
    rows = predict.rows()
    assert [row["variant"] for row in rows] == ["mha", "gqa", "mqa", "mla"]
    assert {row["gpu"] for row in rows} == {"h200-sxm"}


def test_json_is_a_list_of_rows_in_every_combination(predict: Predict) -> None:
    models = ("--model", "deepseek-v3", "--model", "llama-3.1-405b")
    rows = predict.rows(*models, "--gpu", "h200", "--gpu", "a100", "--tp", "1,8", "-a", "batch=1,32")
    assert len(rows) == 2 * 2 * 2 * 2
    assert all(set(row) >= KEYS for row in rows)
    assert {row["form"] for row in rows if row["variant"] == "gqa"} == {None}
    assert {row["kv_cache_bytes_per_token"] for row in rows if row["tp"] == 1} == {70_272, 516_096}


def test_csv_has_the_same_rows(predict: Predict) -> None:
    arguments = ("--model", "deepseek-v3", "-a", "kv_len[pow2]=10:12")
    rows = predict.rows(*arguments)
    table = list(csv.DictReader(io.StringIO(predict(*arguments, "--format", "csv")[0])))
    assert [row["flops"] for row in table] == [str(row["flops"]) for row in rows]
    assert table[0]["num_kv_heads"] == ""


@pytest.mark.parametrize(
    "more",
    [(), ("--calibrate", str(BASELINE)), ("--crossovers",), ("--crossovers", "--calibrate", str(BASELINE))],
)
def test_markdown_is_the_table_to_be_pasted(predict: Predict, more: tuple[str, ...]) -> None:
    arguments = ("--model", "deepseek-v3", "-a", "kv_len[pow2]=10:12", *more)
    table, _ = predict(*arguments)
    markdown, _, notes = predict(*arguments, "--format", "md")[0].partition("\n\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    assert len({len(line) for line in cells}) == 1
    assert len(cells) == 2 + len(predict.rows(*arguments))
    assert cells[0][0] == "model"
    assert cells[2][-1] in table
    assert notes.splitlines()[-1] in table


def test_a_bar_in_a_name_begins_no_column(predict: Predict, tmp_path: Path) -> None:
    models = tmp_path / "mine.toml"
    models.write_text('["one|two"]\nvariant = "mqa"\nnum_layers = 3\nnum_q_heads = 4\nhead_dim = 16\n')
    assert "| one\\|two |" in " ".join(predict("--models", str(models), "--format", "md")[0].split())


def test_the_table_shows_what_varies(predict: Predict) -> None:
    output, _ = predict("--model", "deepseek-v3", "--tp", "1,8")
    assert "70.272 kB" in output
    assert "1,152 B" in output
    header = next(line for line in output.splitlines() if "floor" in line)
    assert " tp " in header
    assert " dtype " not in header
    assert "vs gqa" in header
    assert "vs mla" not in header


def test_the_format_of_the_cache_is_shown_where_it_is_not_the_dtype(predict: Predict) -> None:
    plain, _ = predict("--model", "deepseek-v3.2")
    served, _ = predict("--model", "deepseek-v3.2", "--cache-format", "model")
    assert "fp8_656" not in plain
    assert "fp8_656" in served
    assert "656 B" in served
    # 61 layers of 656 + 132 B.
    assert "48.068 kB" in served
    calibrated = ("--calibrate", str(BASELINE), "--model", "deepseek-v3", "--cache-format", "bfloat16,float8")
    measured, other = predict.rows(*calibrated)
    assert measured["latency_us"] > measured["floor_us"]
    assert other["latency_us"] is None
    _, errors = predict("--model", "deepseek-v3", "--cache-format", "float8", "--crossovers", code=2)
    assert "leave --cache-format away" in errors


def test_crossovers_are_a_list_of_their_own(predict: Predict) -> None:
    found = predict.rows("--model", "deepseek-v3", "--crossovers")
    by_kind = {row["crossover"]: row for row in found}
    assert set(by_kind) == {"kv_len_overtakes", "compute_bound_heads", "absorbed_new_tokens", "grouped_cache_tp"}
    assert by_kind["compute_bound_heads"]["at"] == pytest.approx(109.125)
    output, _ = predict("--model", "deepseek-v3", "--crossovers")
    assert "compute-bound from 110 heads" in output
    assert "up to 170 new tokens behind a long prefix" in output
    assert "kv_len: where floors cross" in output
    # 3.31 and 72.3 tokens: it is ahead from the fourth on, and from the seventy-third.
    lengths = [line.split()[7] for line in output.splitlines() if " at the floor above kv_len " in line]
    assert lengths == ["3", "72"]
    assert "at the floor above kv_len 72 " in output


def test_a_calibration_adds_latencies_and_tells_its_errors_apart(predict: Predict) -> None:
    arguments = ("--model", "deepseek-v3", "-a", "batch=128", "-a", "kv_len=8192", "--calibrate", str(BASELINE))
    output, errors = predict(*arguments, "--gpu", "h200", "--gpu", "a100", "--format", "json", "--verbose")
    h200, a100 = json.loads(output)
    assert h200["latency_us_low"] < h200["latency_us"] < h200["latency_us_high"]
    assert h200["latency_us"] == pytest.approx(measured_us(), rel=0.15)
    assert a100["latency_us"] is a100["latency_us_low"] is None
    assert "mla_absorbed: mean error by regime: compute " in errors
    assert "mla_decode_gluon_few_rows: " in errors
    assert " a thousand merged rows" in errors
    assert "% while expanding" in errors
    assert "over 451 cases, each predicted from the half that it is not in: compute " in errors
    table, errors = predict(*arguments)
    assert errors.count("\n") == 1, "all but one line is asked for"
    header, row = (next(line for line in table.splitlines() if start in line) for start in ("90% interval", "deepseek"))
    assert "vs gqa" in header
    assert format_latency(measured_us()) in row
    ratio = format_ratio_range(*(h200[f"latency_speedup_vs_gqa{end}"] for end in ("", "_low", "_high")))
    assert ratio in row
    assert "measured: the median of the run's fastest kernel" in table
    between, _ = predict("--model", "deepseek-v3", "-a", "kv_len=8000", "--calibrate", str(BASELINE))
    assert "measured" not in between


def test_contracts_with_too_few_cases_are_named(predict: Predict, tmp_path: Path) -> None:
    run = load_run(BASELINE)
    kept = [line for record, line in zip(run.records, lines_of(BASELINE), strict=True) if is_kept(record.case)]
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "manifest.json").write_bytes((BASELINE / "manifest.json").read_bytes())
    (tmp_path / "few" / "records.jsonl").write_text("".join(kept))
    _, errors = predict("--model", "deepseek-v3", "--calibrate", str(tmp_path / "few"))
    few = sum(record.case.variant.form == "recompute" and is_kept(record.case) for record in run.records)
    assert f"; too few to fit: {few} of mla_recompute" in errors.splitlines()[-1]


def lines_of(run: Path) -> list[str]:
    return (run / "records.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)


def is_kept(case: Case) -> bool:
    """Whether it is no recomputing one, but for those at batch 1."""
    return case.variant.form != "recompute" or (case.batch == 1 and case.variant.num_q_heads == 16)


def test_a_model_that_one_gpu_cannot_hold_is_named(predict: Predict) -> None:
    output, _ = predict("--model", "deepseek-v3", "--model", "llama-3.1-8b", "--tp", "1,8")
    (line,) = [line for line in output.splitlines() if line.startswith("No room")]
    assert "deepseek-v3 at tp 1 (671 GB of h200-sxm's 141 GB; enough from tp 8 on)" in line
    assert "llama" not in line
    assert "No room" not in predict("--model", "deepseek-v3", "--tp", "8")[0]
    output, _ = predict("--model", "all")
    assert re.search(r"; deepseek-v3.2 at tp 1 \(.*\) and \d+ more\.", output)


def test_a_format_that_one_model_does_not_hold_leaves_it_out(predict: Predict) -> None:
    arguments = ("--model", "deepseek-v3", "--model", "llama-3.1-8b", "--cache-format", "fp8_656,float8")
    output, errors = predict(*arguments, "-f", "json")
    assert [(row["model"], row["cache_format"]) for row in json.loads(output)] == [
        ("deepseek-v3", "fp8_656"), ("deepseek-v3", "float8"), ("llama-3.1-8b", "float8")
    ]  # fmt: skip
    assert errors == "mlabench: warning: --cache-format fp8_656 does not hold llama-3.1-8b gqa-8: left out\n"
    _, errors = predict("--model", "llama-3.1-8b", "--cache-format", "fp8_656", code=2)
    assert "which GQA-8 (32 heads) does not cache: take" in errors
    _, errors = predict("-a", "scope=core,layer", "--model", "deepseek-v3", "--cache-format", "float8")
    assert "does not hold deepseek-v3 mla absorbed layer: left out" in errors
    _, errors = predict("--model", "llama-3.1-8b", "--tp", "3", "--cache-format", "float8", code=2)
    assert "choose among 1, 2, 4" in errors


def test_layers_are_calibrated_by_layers(predict: Predict) -> None:
    arguments = ("--model", "deepseek-v3", "--calibrate", str(BASELINE.parent / "layer"))
    core, layer = predict.rows(*arguments, "-a", "scope=core,layer")
    assert core["latency_us"] is None
    assert layer["latency_us"] > layer["floor_us"]
    table, errors = predict(*arguments)
    assert "–" in table
    assert "layer tells no latency of these cases, of mla_absorbed: it was fitted to mla_absorbed layer, " in errors


def test_sizes_beyond_those_of_the_run_are_told(predict: Predict) -> None:
    arguments = ("--model", "qwen2.5-72b", "--calibrate", str(BASELINE), "--tp", "8")
    _, errors = predict(*arguments, "-a", "batch=32,1000", "-a", "kv_len=100,4096,1000000", "-a", "q_len=1,4")
    assert errors.splitlines()[-1] == (
        "mlabench: warning: beyond what decode measured, where its intervals may be too narrow: "
        "num_q_heads 8 (it has 16 to 128); batch 1,000 (it has 1 to 128); q_len 4 (it has 1 alone); "
        "kv_len 100, 1,000,000 (it has 1,024 to 131,072)"
    )
    assert "num_q_heads 8 (it has 16 to 128)" in predict(*arguments, "--crossovers")[1]
    _, errors = predict("--model", "deepseek-v3", "--calibrate", str(BASELINE), "--tp", "1,8")
    assert "beyond" not in errors


def test_lengths_over_the_context_of_a_model_are_told(predict: Predict) -> None:
    models = ("--model", "deepseek-v3", "--model", "llama-2-7b")
    _, errors = predict(*models, "-a", "kv_len=4096,200000,163840", "-a", "batch=1,8")
    assert errors == (
        "mlabench: warning: kv_len over the model's max_context: "
        "200,000 of deepseek-v3 (163,840); 200,000, 163,840 of llama-2-7b (4,096)\n"
    )
    assert predict(*models, "-a", "kv_len=4096")[1] == predict("-a", "kv_len=1000000")[1] == ""


def test_a_length_that_is_solved_for_is_said_to_be_ignored(predict: Predict) -> None:
    ignored = "mlabench: warning: -a kv_len=... is ignored: it is what --crossovers solve for"
    of_run = ("--crossovers", "--calibrate", str(BASELINE))
    given = ("--model", "deepseek-v3", "-a", "kv_len=500000")
    told, calibrated = predict(*given, *of_run)[1].splitlines()
    assert told == ignored
    assert "beyond" not in calibrated
    assert "ignored" not in predict("--model", "deepseek-v3", *of_run)[1]
    grouped = ("--model", "llama-3.1-8b", "--crossovers")
    output, errors = predict(*grouped, "-a", "kv_len=500000")
    assert errors == f"{ignored}\n"
    assert output == predict(*grouped)[0]
    # Of a latent it is the length of a cached prefix.
    output, errors = predict(*given, "--crossovers")
    assert "behind 500000 cached tokens" in output
    assert errors == "mlabench: warning: kv_len over the model's max_context: 500,000 of deepseek-v3 (163,840)\n"


def test_crossovers_of_a_run_stand_beside_what_is_predicted(predict: Predict) -> None:
    arguments = ("--crossovers", "--calibrate", str(BASELINE))
    some = ("--where", 'num_q_heads == 128 and batch <= 8 and form != "recompute"')
    output, errors = predict(*arguments, *some, "--format", "json")
    rows = json.loads(output)
    assert [(row["against"], row["batch"]) for row in rows] == [
        (against, batch) for batch in (1, 8) for against in ("mha", "gqa-8", "mqa")
    ]
    agreeing = sum(row["agrees"] for row in rows)
    assert f"mlabench: {agreeing} of 6 (" in errors
    crossing = sum(bool(row["measured"]) for row in rows)
    assert f" of {crossing} (" in errors.splitlines()[-1]
    table, _ = predict(*arguments, *some)
    assert "floors, without --calibrate, cross at shorter lengths" in table
    lines = [line.split() for line in table.splitlines() if "varied" in line]
    assert len(lines) == 6
    assert sum("from" in line for line in lines) >= crossing
    assert all("always" in line for line in lines if "mha" in line)
    assert all("never" in line for line in lines if "mqa" in line)


def test_crossovers_of_a_model_are_where_its_latencies_cross(predict: Predict) -> None:
    arguments = ("--model", "deepseek-v3", "--tp", "1,8", "-a", "batch=1,32", "--crossovers", "--calibrate")
    rows = predict.rows(*arguments, str(BASELINE))
    of_gqa = {(row["tp"], row["batch"]): row for row in rows if row["against"] == "gqa-8"}
    assert set(of_gqa) == {(1, 1), (1, 32), (8, 1), (8, 32)}
    table, _ = predict(*arguments, str(BASELINE))
    lines = [line.split("  ") for line in table.splitlines() if "vs gqa-8" in line]
    cells = {tuple(text.strip() for text in line if text.strip())[-4:] for line in lines}
    one = of_gqa[1, 1]
    assert ("1", f"from {format_number(one['predicted'][0])}", f"up to {format_number(one['unsure_to'])}") in {
        cell[:3] for cell in cells
    }
    assert {cell[1] for cell in cells if cell[0] == "8"} == {"never"}
    assert "as measured: – where the run has no such pair" in table


def test_a_project_model_leaves_the_crossovers_of_a_run_as_they_are(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlabench.toml").write_text('model = "deepseek-v3"\n')
    monkeypatch.chdir(tmp_path)
    assert "steps_apart" in predict.rows("--crossovers", "--calibrate", str(BASELINE))[0]


def test_a_run_that_tells_no_two_variants_is_named(predict: Predict) -> None:
    prefix = str(BASELINE.parent / "prefix")
    output, errors = predict("--model", "deepseek-v3", "--crossovers", "--calibrate", prefix, code=2)
    assert output == ""
    assert "prefix tells no two variants' latencies of these cases" in errors.splitlines()[-1]


def test_crossovers_of_a_prefix_are_of_new_tokens(predict: Predict) -> None:
    rows = predict.rows("--crossovers", "--calibrate", str(BASELINE.parent / "prefix"))
    assert {row["axis"] for row in rows} == {"q_len"}
    assert all(100 < row["measured"][0] < 1000 for row in rows)


def test_a_config_and_a_models_file_are_read(predict: Predict, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config.write_text(json.dumps({"model_type": "llama", **sizes}))
    models = tmp_path / "mine.toml"
    models.write_text('[mine]\nvariant = "mqa"\nnum_layers = 3\nnum_q_heads = 4\nhead_dim = 16\n')
    one, other = predict.rows("--model", str(config), "--model", "mine", "--models", str(models))
    assert (one["variant"], one["kv_cache_bytes_per_token"]) == ("mha", 2 * 2 * 4 * 16 * 2)
    assert (other["model"], other["kv_cache_bytes_per_token"]) == ("mine", 3 * 2 * 16 * 2)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_plot_is_drawn(predict: Predict, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"floors.{suffix}"
    _, errors = predict("-a", "kv_len[pow2]=10:14", "--plot", str(path))
    assert path.stat().st_size > 10_000
    assert f"drew {path}" in errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--model", "deepseek-v33"), "unknown model 'deepseek-v33': did you mean"),
        (("--gpu", "v100"), "unknown GPU 'v100'"),
        (("--model", "llama-3.1-8b", "--tp", "3"), "choose among 1, 2, 4, 8, 16, 32"),
        (("--model", "llama-3.1-8b", "--tp", "3", "--crossovers"), "choose among 1, 2, 4, 8, 16, 32"),
        (("--model", "all", "--tp", "8"), "glm-4.7-flash: --tp 8 does not split"),
        (("--tp", "0"), "--tp '0' is no whole number"),
        (("--dp", "1,two"), "--dp 'two' is no whole number"),
        (("-a", "tp=2"), "unknown axis 'tp'"),
        (("-a", "batch=0"), "batch=0 must be a positive whole number"),
        (("-a", "q_len=8", "-a", "kv_len=4"), "kv_len 4 is under q_len 8"),
        (("--where", "batch > 1"), "keeps nothing"),
        (("--model", "./nowhere/config.json"), "No such file"),
        (("--models", "nowhere.toml"), "No such file"),
        (("--gpus", "nowhere.toml"), "No such file"),
        (("--calibrate", "nowhere"), "is not a run directory"),
        (("--calibrate", str(BASELINE), "--gpu", "a100"), "and says nothing of another GPU: add --gpu h200-sxm"),
        (("--crossovers", "--plot", "floors.png"), "leave --plot away"),
        (("--plot", "floors.pdf"), "name it floors.png or floors.svg"),
        (("--plot", "nowhere/floors.png"), "there is no folder nowhere"),
        (("--plot", "floors.png", "-a", "dtype=float32"), "would have 0 lines"),
    ],
)
def test_bad_input_is_one_line(predict: Predict, arguments: tuple[str, ...], complaint: str) -> None:
    output, errors = predict(*arguments, code=2)
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith("mlabench: error: ")
    assert complaint in line


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        ("decode", "decode has no absorbed MLA beside another variant at 3 lengths or more where batch == 7"),
        ("decode-sustained", "was measured under lasting load"),
    ],
)
def test_a_run_that_tells_no_crossover_is_named(predict: Predict, run: str, complaint: str) -> None:
    arguments = ("--crossovers", "--calibrate", str(BASELINE.parent / run), "--where", "batch == 7")
    output, errors = predict(*arguments, code=2)
    assert output == ""
    assert complaint in errors.splitlines()[-1]


def test_a_long_table_is_plain_and_has_every_row(predict: Predict) -> None:
    arguments = ("--model", "deepseek-v3", "--gpu", "h200")
    short, long = ([line.split() for line in predict(*arguments, "-a", axis)[0].splitlines()] for axis in AXES)
    rule = next(at for at, line in enumerate(long) if set("".join(line)) == {"─"})
    assert long[rule - 1] in short
    assert len(long[rule + 1 :]) == 600 + 3
    assert [line for line in short if line[:1] == ["deepseek-v3"]] == long[rule + 1 : rule + 3]
    assert long[-1] in short
    assert " ".join(long[-2]).startswith("A floor is no time")


def test_brackets_in_a_name_are_no_markup(predict: Predict, tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('["m[/b]"]\nvariant = "mqa"\nnum_layers = 3\nnum_q_heads = 4\nhead_dim = 16\n')
    assert "m[/b] " in predict("--models", str(models))[0]


def test_every_model_takes_the_grid_of_variants(predict: Predict) -> None:
    grid = ("-a", "variant=mha,gqa,mqa,mla", "-a", "form=absorbed,recompute", "-a", "batch=1,32")
    output, errors = predict("--model", "all", "--gpu", "all", *grid, "--format", "json")
    asked = {row["variant"] for row in json.loads(output) if row["model"] == "glm-4.7-flash"}
    assert asked == {"mha", "mqa", "mla"}
    line, over = errors.splitlines()
    assert line.startswith("mlabench: warning: no gqa of glm-4.7-flash: ")
    assert over.startswith("mlabench: warning: kv_len over the model's max_context: 4,096 of ")
    assert predict.rows("--model", "glm-4.7-flash", "-a", "variant=mla,gqa", "-a", "num_kv_heads=4")
    _, errors = predict("--model", "glm-4.7-flash", "-a", "variant=gqa", code=2)
    assert "20 is not a multiple of num_kv_heads 8: choose one of 1, 2, 4, 5, 10, 20" in errors


def test_neither_torch_nor_anything_slow_is_loaded() -> None:
    code = """
import sys
from mlabench.cli.app import main
sys.argv = ["mlabench", "predict", "--model", "all", "--gpu", "all", "--format", "json"]
main()
"""
    check = "\nprint([n for n in ('torch', 'triton', 'pandas', 'matplotlib', 'numpy') if n in sys.modules])"
    quiet = code.replace("main()\n", "try:\n    main()\nexcept SystemExit:\n    pass") + check
    done = subprocess.run([sys.executable, "-c", quiet], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(json.loads(done.stdout.rpartition("[]")[0])) == 34 * 7
