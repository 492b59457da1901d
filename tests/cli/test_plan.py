"""`mlabench plan`: what it prints in each format, what it refuses, and that it loads nothing heavy."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlabench.units import format_number
from tests.cli.commands import ROOT, call

BASELINE = ROOT / "results" / "baselines" / "nvidia-h200" / "decode"
EIGHT = ("--model", "deepseek-v3", "--gpu", "h200", "--gpus-count", "8")


class Plan:
    """`mlabench plan ARGUMENTS` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Standard output and error."""
        assert call(self._monkeypatch, "plan", *arguments) == code
        captured = self._capsys.readouterr()
        return captured.out, captured.err

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        return json.loads(self(*arguments, "--format", "json")[0])


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    return Plan(monkeypatch, capsys)


def test_all_gpus_share_the_heads_unless_told_otherwise(plan: Plan) -> None:
    def layouts(*options: str) -> list[tuple[int, int]]:
        return [(row["tp"], row["dp"]) for row in plan.rows(*EIGHT, *options)]

    assert layouts() == [(8, 1)]
    assert layouts("--tp", "1,8") == [(1, 8), (8, 1)]
    assert layouts("--dp", "2") == [(4, 2)]
    assert layouts("--tp", "2,4", "--dp", "1,4") == [(2, 4)]


def test_every_combination_has_a_row(plan: Plan) -> None:
    rows = plan.rows(*EIGHT, "-a", "kv_len=1024,8192", "-a", "variant=mla,gqa", "--cache-format", "bfloat16,float8")
    assert len(rows) == 2 * 2 * 2
    assert {row["variant"] for row in rows} == {"mla", "gqa"}
    assert {row["weights_bytes"] for row in rows} == {671e9}


def test_csv_and_markdown_have_the_same_rows(plan: Plan) -> None:
    rows = plan.rows(*EIGHT)
    table = list(csv.DictReader(io.StringIO(plan(*EIGHT, "--format", "csv")[0])))
    assert [row["tokens"] for row in table] == [str(row["tokens"]) for row in rows] == ["612263"]
    markdown, _, notes = plan(*EIGHT, "--format", "md")[0].partition("\n\n")
    assert [line.split("|")[1].strip() for line in markdown.splitlines()[::2]] == ["model", "deepseek-v3"]
    assert notes.startswith("Tokens and requests")


def test_the_table_says_of_what_the_speed_is(plan: Plan) -> None:
    output, _ = plan(*EIGHT, "--price", "2.5", "-a", "batch=8")
    assert "attention at its floor, plus the weights at their floor, and nothing else of a step" in output
    assert "612k" in output
    assert "$/M tokens" in output
    assert "longest each" in output
    plain, _ = plan(*EIGHT)
    assert "$" not in plain
    assert "longest each" not in plain


def test_a_calibration_tells_its_errors_apart(plan: Plan) -> None:
    arguments = ("--model", "llama-3.1-8b", "-a", "batch=64", "--calibrate", str(BASELINE))
    output, errors = plan(*arguments)
    assert "attention as the run's kernels take it" in output
    assert "over 451 cases" in errors
    assert errors.count("\n") == 1
    (row,) = plan.rows(*arguments)
    slow, fast = (format_number(row[f"calibrated_{end}_tokens_per_s"]) for end in ("slow", "fast"))
    assert f" {slow} to {fast} " in output
    _, errors = plan("--model", "llama-3.1-8b", "--calibrate", str(BASELINE), "-v")
    assert "grouped: mean error by regime" in errors


def test_sizes_beyond_those_of_the_run_are_told(plan: Plan) -> None:
    arguments = ("--model", "llama-3.1-8b", "--gpus-count", "2", "--calibrate", str(BASELINE))
    _, errors = plan(*arguments, "-a", "batch=8,256", "-a", "kv_len=512,8192", "--tp", "1,2")
    assert errors.splitlines()[-1] == (
        "mlabench: warning: beyond what decode measured, where its intervals may be too narrow: "
        "batch 256 (it has 1 to 128); kv_len 512 (it has 1,024 to 131,072)"
    )
    # Two replicas take half of it each, and what is not told a time cannot be beyond.
    assert "beyond" not in plan(*arguments, "-a", "batch=256", "-a", "kv_len=2048", "--tp", "1")[1]
    assert "beyond" not in plan(*arguments, "-a", "batch=256", "-a", "kv_len=100000")[1]
    assert "batch" in plan(*arguments)[1].splitlines()[-1], "as many as fit"


def test_no_interval_is_shown_of_what_is_not_known(plan: Plan) -> None:
    output, _ = plan(*EIGHT, "--model", "deepseek-v3.2", "--calibrate", str(BASELINE))
    (row,) = [line for line in output.splitlines() if "deepseek-v3.2" in line]
    assert row.split()[-2:] == ["–", "–"]


def test_a_format_that_one_model_does_not_hold_leaves_it_out(plan: Plan) -> None:
    output, errors = plan(*EIGHT, "--model", "llama-3.1-8b", "--cache-format", "fp8_656", "-f", "json")
    assert [row["model"] for row in json.loads(output)] == ["deepseek-v3"]
    assert "--cache-format fp8_656 does not hold llama-3.1-8b gqa-8: left out" in errors


def test_bytes_of_weights_do_for_a_model_of_your_own(plan: Plan, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config.write_text(json.dumps({"model_type": "llama", **sizes}))
    (row,) = plan.rows("--model", str(config), "--weights-gb", "6.9", "--reserve", "0")
    # A token takes 2 layers * 2 * 64 elements of 2 B.
    assert row["tokens"] == (141_000_000_000 - 6_900_000_000) // 512


def test_models_without_room_are_named_with_how_many_gpus_have_it(plan: Plan) -> None:
    some = ("--model", "deepseek-v3", "--model", "llama-3.1-8b", "--reserve", "0.2")
    table, _ = plan(*some, "--gpus-count", "1,8")
    (line,) = [line for line in table.splitlines() if line.startswith("No room")]
    assert "and 20% in reserve: deepseek-v3 at tp 1 (671 GB of h200-sxm's 141 GB; enough from tp 8 on)" in line
    assert "llama-3.1-8b" not in line
    assert "No room" not in plan(*some, "--gpus-count", "8")[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "add --model"),
        (("--model", "deepseek-v3"), "--gpus-count 8 --tp 8, or fewer bytes"),
        ((*EIGHT, "--tp", "3"), "--gpus-count 8 is no multiple of --tp 3: choose among 1, 2, 4, 8"),
        ((*EIGHT, "--dp", "16"), "--gpus-count 8 is no multiple of --dp 16: choose among 1, 2, 4, 8"),
        ((*EIGHT, "--tp", "4", "--dp", "4"), "--gpus-count 8 is no --tp times --dp"),
        (("--model", "glm-4.7-flash", "--gpus-count", "8"), "--tp 8 does not split"),
        ((*EIGHT, "--gpus-count", "none"), "--gpus-count 'none' is no whole number"),
        ((*EIGHT, "--reserve", "1"), "--reserve 1.0"),
        ((*EIGHT, "--reserve", "nan"), "--reserve nan"),
        ((*EIGHT, "--price", "-1"), "--price -1.0"),
        ((*EIGHT, "--weights-gb", "0"), "--weights-gb 0.0"),
        ((*EIGHT, "--weights-gb", "1e300"), "--weights-gb 1e+300"),
        (("--model", "all", "--gpus-count", "8"), "glm-4.7-flash: --tp 8 does not split"),
        ((*EIGHT, "--weights-dtype", "fp8"), "unknown weights dtype 'fp8': did you mean float8?"),
        ((*EIGHT, "--weights-dtype", "BF16"), "unknown weights dtype 'BF16': did you mean bfloat16?"),
        ((*EIGHT, "--weights-dtype", "int8"), "unknown weights dtype 'int8': did you mean float8?"),
        ((*EIGHT, "--cache-format", "fp8"), "unknown --cache-format 'fp8': did you mean float8?"),
        ((*EIGHT, "--dtype", "fp16"), "dtype=fp16 is unknown: did you mean float16?"),
        ((*EIGHT, "--weights-gb", "9", "--weights-dtype", "float8"), "take one"),
        ((*EIGHT, "--cache-format", "int3"), "unknown --cache-format 'int3'"),
        ((*EIGHT, "-a", "phase=prefill"), "-a phase="),
    ],
)
def test_bad_input_is_one_line(plan: Plan, arguments: tuple[str, ...], complaint: str) -> None:
    _, errors = plan(*arguments, code=2)
    assert complaint in errors
    assert errors.count("\n") == 1


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys; from mlabench.cli.app import app; app(sys.argv[1:], standalone_mode=False); "
        "print([name for name in ('torch', 'triton', 'pandas', 'numpy') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "plan", *EIGHT, "--dp", "8", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.endswith("[]\n")
