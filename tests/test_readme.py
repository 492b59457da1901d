"""The README: its numbers are the committed baseline's, and its commands are taken."""

import math
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mlabench.claims.judge import judge_all
from mlabench.claims.ledger import load_ledger
from mlabench.machine.ceilings import ridge_flops_per_byte
from mlabench.measure.config import load_config
from mlabench.measure.kernels import PEERS
from mlabench.predict.calibrate import calibrate
from mlabench.predict.capacity import DEFAULT_RESERVE, Setup, plan_row
from mlabench.predict.crossovers import find_crossovers
from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.rows import make_points, predict_rows
from mlabench.predict.weights import weights_of
from mlabench.records.frame import rows
from mlabench.records.store import Run, load_run
from mlabench.units import (
    format_bandwidth,
    format_bytes,
    format_flop_rate,
    format_latency,
    format_number,
    format_percent,
    format_tokens,
)
from tests.cli.commands import call

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = " ".join(README.split())


@cache
def baseline() -> Run:
    return load_run(ROOT / "results" / "baselines" / "nvidia-h200" / "decode")


def point(variant: str, num_q_heads: int, batch: int = 128, kv_len: int = 8192, form: str | None = None) -> dict:
    wanted = (variant, num_q_heads, batch, kv_len, form)
    (row,) = [
        row
        for row in rows(baseline())
        if (row["variant"], row["num_q_heads"], row["batch"], row["kv_len"], row["form"]) == wanted
    ]
    return row


def mla(num_q_heads: int, form: str = "absorbed", **where: int) -> dict:
    return point("mla", num_q_heads, form=form, **where)


def test_every_point_of_the_baseline_is_ok() -> None:
    statuses = {record.status for record in baseline().records}
    assert statuses == {"ok"}
    assert f"{len(baseline().records)} points, all checked" in TEXT


def test_the_table_of_peers_is_theirs() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| ([^|]+) \|([^|]*)\|$", README, re.MULTILINE)
    told = {name: (takes, note) for names, takes, note in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(told) == {kernel.backend for kernel in PEERS}
    for kernel in PEERS:
        takes, note = told[kernel.backend]
        taken = {"mla_absorbed": "absorbed MLA", "grouped": "grouped", "grouped_prefill": "grouped prefill"}
        assert taken[kernel.contract] in takes
        assert ("finite" in note) == kernel.reads_unused_slots
        assert ("log-sum-exp" in note) != kernel.writes_lse


def test_latencies_are_the_baselines() -> None:
    latent, gqa, mha = mla(128), point("gqa", 128), point("mha", 128)
    us = {name: row["latency_us"] for name, row in (("mla", latent), ("gqa", gqa), ("mha", mha))}
    assert (
        f"MLA takes {format_latency(us['mla'])} against MHA's {format_latency(us['mha'])} "
        f"({us['mha'] / us['mla']:.1f} times faster) and GQA-8's {format_latency(us['gqa'])} "
        f"({us['gqa'] / us['mla']:.2f} times faster)"
    ) in TEXT
    assert f"it is {point('gqa', 16)['latency_us'] / mla(16)['latency_us']:.2f} times faster than GQA-8" in TEXT
    assert f"({format_latency(mla(16)['latency_us'])} for 16 heads)" in TEXT
    assert f"({format_latency(point('mqa', 16)['latency_us'])}, the MQA point)" in TEXT


def test_where_gqa_is_faster_is_the_baselines() -> None:
    def gqa_wins(batch: int) -> list[int]:
        lengths = [1 << exponent for exponent in range(10, 18)]
        where = [{"batch": batch, "kv_len": length} for length in lengths]
        return [w["kv_len"] for w in where if point("gqa", 128, **w)["latency_us"] < mla(128, **w)["latency_us"]]

    one, eight = (format_tokens(max(gqa_wins(batch))) for batch in (1, 8))
    assert f"GQA-8 is the faster one at batch 1 up to {one} tokens and at batch 8 up to {eight}." in TEXT
    assert not gqa_wins(32) and not gqa_wins(128)


def test_roofline_numbers_are_the_baselines() -> None:
    latent, gqa, recompute = mla(128), point("gqa", 128), mla(128, "recompute")
    ceilings = baseline().manifest.ceilings
    assert ceilings is not None
    assert f"ridge of {ridge_flops_per_byte(ceilings, 'bfloat16'):.0f}," in TEXT
    assert f"does {latent['arithmetic_intensity_flops_per_byte']:.0f} FLOP for each byte" in TEXT
    reached = f"{format_percent(latent['fraction_of_floor'])} of the roofline's speed"
    assert f"MLA's at {reached} ({format_flop_rate(latent['flops_per_s'])})" in TEXT
    rate = format_bandwidth(gqa["bandwidth_bytes_per_s"])
    assert f"GQA-8's at {format_percent(gqa['fraction_of_floor'])} ({rate})" in TEXT
    ratio = recompute["latency_us"] / latent["latency_us"]
    assert f"takes {format_latency(recompute['latency_us'])}, {ratio:.0f} times the absorbed core" in TEXT
    assert recompute["throttled"]


def test_sustained_times_and_energies_are_the_sustained_runs() -> None:
    run = load_run(ROOT / "results/baselines/nvidia-h200/decode-sustained")
    (mha, gqa, latent) = (
        next(row for row in rows(run) if (row["variant"], row["batch"], row["kv_len"]) == (variant, 128, 8192))
        for variant in ("mha", "gqa", "mla")
    )
    us, gqa_us = (format_latency(row["latency_us"]) for row in (latent, gqa))
    assert f"MLA with 128 heads takes {us} at that point, GQA-8 {gqa_us}, and one decoded token costs" in TEXT
    mj = [1e3 * row["energy_j_per_token"] for row in (latent, gqa, mha)]
    assert f"costs MLA {mj[0]:.2f} mJ a layer, GQA-8 {mj[1]:.2f} mJ and MHA {mj[2]:.1f} mJ" in TEXT


@pytest.mark.parametrize("line", re.findall(r"^    mlabench (sweep(?! --resume).*)$", README, re.M))
def test_sweep_commands_are_taken(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line, comments=True)
    if "my_decode" in words:
        pytest.skip("names the reader's own kernel")
    extra = [word for word in ("--device", "cpu", "--dry-run") if word not in words]
    assert call(monkeypatch, *words, *extra) == 0


@pytest.mark.parametrize("line", re.findall(r"^    mlabench ((?:predict|plan|claims) .*)$", README, re.M))
def test_commands_of_arithmetic_are_taken(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert call(monkeypatch, *shlex.split(line, comments=True)) == 0


def test_what_is_predicted_is_what_the_code_predicts() -> None:
    gpus = choose_gpus(["h200-sxm"])
    found = find_crossovers(make_points(choose_models(["deepseek-v3"]), {}), gpus)
    at = {(crossover.crossover, crossover.against, crossover.kv_len): crossover.at for crossover in found}
    assert f"from {math.ceil(at['compute_bound_heads', None, None])} heads" in TEXT
    assert f"up to {math.floor(at['absorbed_new_tokens', 'mla recompute', None])} new tokens" in TEXT
    assert at["grouped_cache_tp", "gqa-8", None] == 4
    assert "from four ranks on each caches less of GQA-8 (1,024 B) than of MLA (1,152 B)" in TEXT
    calibration = calibrate(baseline(), gpus[0])
    mean = format_percent(calibration.mean_absolute_error, 1)
    assert (
        f"{calibration.points} cases, each predicted from the half that it is not in, the mean error is {mean}" in TEXT
    )
    errors = [(e.mean_absolute_error, e.regime, fit.contract) for fit in calibration.fits.values() for e in fit.errors]
    worst, regime, contract = max(errors)
    assert (regime, contract) == ("launch", "grouped")
    assert f"worst, at {format_percent(worst, 1)}, where calls of grouped attention are so short" in TEXT


def test_what_is_told_of_claims_is_what_the_ledger_finds() -> None:
    judged = {one.claim.id: one for one in judge_all(load_ledger())}
    values = {one.reading.name: one for one in judged["trick.2"].tested}
    assert (values["published"].holds, values["equal"].holds) == (True, False)
    (heads, *_) = judged["guide.1"].tested
    assert f"at equal precision it is {values['equal'].text}, and against MHA with as many heads {heads.text}." in TEXT


def test_what_is_planned_is_what_the_code_plans() -> None:
    (model,), (gpu,) = choose_models(["deepseek-v3"]), choose_gpus(["h200-sxm"])
    tokens = {
        tp: plan_row(Setup(make_points([model], {}, "", (tp,), (8 // tp,))[0], gpu, weights_of(model)))["tokens"]
        for tp in (8, 1)
    }
    assert f"room for {format_number(tokens[8])} tokens where eight ranks share its heads" in TEXT
    assert f"and for {format_number(tokens[1])} where each GPU attends" in TEXT
    assert f"a reserve of {format_percent(DEFAULT_RESERVE)}" in TEXT
    points = make_points(choose_models(["deepseek-v3.2"]), {}, cache_formats=("model",))
    (row,) = predict_rows(points, [gpu])
    assert f"takes {format_bytes(row['kv_cache_bytes_per_token'], digits=6)} a token as served" in TEXT


def test_a_kernel_of_your_own_is_short_and_installs_and_is_right(tmp_path: Path) -> None:
    files = re.findall(r"```(?:toml|python)\n# (\S+)\n(.*?)```", README, re.S)
    assert [name for name, _ in files] == ["pyproject.toml", "my_decode.py"]
    assert sum(text.count("\n") for _, text in files) <= 25
    pytest.importorskip("setuptools", reason="builds a package without a network")
    project, site = tmp_path / "project", tmp_path / "site"
    project.mkdir()
    for name, text in files:
        (project / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True, timeout=300)
    sweep = ["sweep", "--device", "cpu", "--kernel", "my_decode", "--out", str(tmp_path / "run")]
    axes = ["num_q_heads=4", "kv_len=2,70", "batch=3", "q_len=1,2", "kv_len_dist=uniform,ragged"]
    done = subprocess.run(
        [sys.executable, "-m", "mlabench", *sweep, *(word for axis in axes for word in ("-a", axis))],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}:{site}"},
        check=False,
        timeout=300,
    )
    assert done.returncode == 0
    statuses = [(record.case.q_len, record.status) for record in load_run(tmp_path / "run").records]
    assert set(statuses) == {(1, "ok"), (2, "unsupported")}


def test_the_sweep_file_is_taken(tmp_path: Path) -> None:
    (block,) = [text for text in re.findall(r"```toml\n(.*?)```", README, re.S) if "[axes]" in text]
    path = tmp_path / "sweep.toml"
    path.write_text(block)
    assert load_config(path).axes["kv_len"][-1] == 131072
    assert load_config(ROOT / "results" / "baselines" / "nvidia-h200" / "decode.toml").kernel


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
