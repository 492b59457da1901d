"""Real compilations without a GPU: seeded changes are told, and what cannot be compiled is a row with its reason."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mlabench.cases.axes import Value
from mlabench.errors import UsageError
from mlabench.machine_code import inspect
from mlabench.machine_code.archs import ARCHS, find_archs
from mlabench.machine_code.compare import Difference, Verdict, compare_rows
from mlabench.machine_code.configurations import CONFIGURATIONS, PREFILL, Configuration
from mlabench.machine_code.inspect import Job, compiler_versions, inspect_kernels, inspect_one, make_jobs
from mlabench.machine_code.rows import Row
from mlabench.measure.kernels import find_kernel, launch_config

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

ROOT = Path(__file__).parents[2]
GQA: dict[str, Value] = {"variant": "gqa"}
MLA_16: dict[str, Value] = {"num_q_heads": 16}
WHOLE = {"num_splits": 1}


def job(kernel: str, axes: dict[str, Value], arch: str = "sm_90", **tunables: int) -> Job:
    """A job whose name is the same whatever the tunables, as if they were a change of the kernel's defaults."""
    return Job(kernel, Configuration("seeded", axes, tunables), find_archs([arch])[0])


def rows_of(kernel: str, axes: dict[str, Value], arch: str = "sm_90", **tunables: int) -> tuple[Row, ...]:
    return inspect_one(job(kernel, axes, arch, **tunables))


def worse(differences: tuple[Difference, ...]) -> dict[str, tuple[int, int]]:
    """Baseline and current of each value that became worse."""
    found = (difference for difference in differences if difference.verdict == Verdict.WORSE)
    return {each.name: (each.baseline, each.current) for each in found}  # type: ignore[misc]


def test_a_seeded_spill_is_caught() -> None:
    before = rows_of("mla_decode_triton", MLA_16, **WHOLE)
    after = rows_of("mla_decode_triton", MLA_16, **WHOLE, num_warps=4)
    assert (before[0].spill_stores, before[0].loop_spills) == (0, 0)
    found = worse(compare_rows(before, after))
    assert {"spill_stores", "spill_loads", "loop_spills", "stack_bytes"} <= found.keys()
    assert found["loop_spills"][1] > 50


def test_lost_warp_group_instructions_are_caught() -> None:
    before, after = rows_of("grouped_decode_triton", GQA), rows_of("grouped_decode_triton", GQA, swap=0)
    assert before[0].async_copies is not None and before[0].async_copies["UTMALDG"] > 0
    assert worse(compare_rows(before, after))["HGMMA"][1] == 0
    assert after[0].matrix_instructions is not None and after[0].matrix_instructions["HMMA"] > 0


def test_sixteen_more_registers_are_caught() -> None:
    before, after = rows_of("grouped_decode_triton", GQA, **WHOLE), rows_of("grouped_decode_triton", GQA, num_splits=8)
    differences = compare_rows(before, after)
    assert worse(differences).keys() == {"registers"}
    old, new = worse(differences)["registers"]
    assert new >= old + 16
    assert {each.key[3] for each in differences if each.verdict == Verdict.NEW} == {"combine_kernel"}


def test_an_unchanged_kernel_has_no_difference_in_another_process() -> None:
    """Neither the order in which hashes put things nor what a process compiled before shows in a row."""
    code = (
        "import tests.machine_code.test_inspect as t; "
        "print(t.inspect_one(t.job('grouped_decode_triton', t.GQA, swap=0))[0].to_json())"
    )
    path = f"{ROOT}:{ROOT / 'kernels'}"
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "TRITON_ALWAYS_COMPILE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{rows_of('grouped_decode_triton', GQA, swap=0)[0].to_json()}\n"


@pytest.mark.parametrize(
    ("arch", "matrix", "copies"),
    [("sm_80", "HMMA", "LDGSTS"), ("sm_90", "HGMMA", "UTMALDG"), ("sm_100", "UTCHMMA", "UTMALDG")],
)
def test_each_architecture_is_told_by_its_instructions(arch: str, matrix: str, copies: str) -> None:
    (row,) = rows_of("grouped_decode_triton", GQA, arch)
    assert row.status == "ok" and row.config is not None and row.config["num_splits"] == 1
    assert row.matrix_instructions is not None and row.matrix_instructions[matrix] > 0
    assert row.async_copies is not None and row.async_copies[copies] > 0
    assert row.matrix_loops == 2
    assert (row.tensor_columns or 0) > 0 if arch == "sm_100" else row.tensor_columns == 0


def test_the_assumed_device_decides_what_a_kernel_chooses() -> None:
    from mlabench.machine_code.assumed_gpu import assumed_gpu

    chosen = []
    for arch in ARCHS:
        with assumed_gpu(arch) as launched:
            launch = inspect.bind_kernel(find_kernel("mla_decode_triton"), Configuration("one request", {"batch": 1}))
        assert launched == []
        config = launch_config(launch)
        chosen.append((config["num_splits"], config["block_n"]))
    assert chosen == [(54, 32), (66, 64), (74, 64)]


def test_what_is_too_large_keeps_its_numbers() -> None:
    (row,) = rows_of("mla_decode_triton", {}, "sm_100", **WHOLE)
    assert (row.status, row.ctas_an_sm) == ("misfit", 0)
    assert row.reason.endswith("of shared memory, NVIDIA B200 has 232,448 B")
    assert row.compiled and (row.shared_bytes or 0) > 232_448


def test_what_is_declined_keeps_its_reason() -> None:
    (declined,) = rows_of("grouped_decode_triton", GQA, "sm_80", num_stages=9)
    assert declined.status == "unsupported" and "bytes of shared memory" in declined.reason
    (unknown,) = rows_of("grouped_decode_triton", GQA, no_such_tunable=1)
    assert (unknown.status, unknown.reason) == ("unsupported", "it has no no_such_tunable")


@pytest.mark.parametrize("arch", ["sm_80", "sm_100"])
@pytest.mark.parametrize(
    ("kernel", "axes"),
    [
        ("mla_decode_gluon", MLA_16),
        ("mla_decode_gluon_few_rows", MLA_16),
        ("grouped_prefill_gluon", {**PREFILL, "variant": "gqa"}),
    ],
)
def test_kernels_for_sm_90_decline_other_architectures(kernel: str, axes: dict[str, Value], arch: str) -> None:
    (row,) = rows_of(kernel, axes, arch)
    assert (row.status, row.reason) == ("unsupported", "needs a GPU of compute capability 9.0")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.machine_code import tiny_kernels

    monkeypatch.setattr(inspect, "find_kernel", tiny_kernels.KERNELS.__getitem__)


@pytest.mark.usefixtures("tiny")
def test_every_candidate_of_an_autotuned_kernel_is_a_row() -> None:
    rows_of("autotuned", {}, "sm_80")
    rows = rows_of("autotuned", {})
    assert [row.function for row in rows] == ["copy_kernel", "copy_kernel #2"]
    assert all(row.status == "ok" and row.warps_an_sm for row in rows)


@pytest.mark.usefixtures("tiny")
def test_gluon_kernels_and_those_that_make_tensors_are_followed() -> None:
    assert [(row.function, row.status, row.reason) for row in rows_of("in_gluon", {})] == [("gluon_kernel", "ok", "")]
    (row,) = rows_of("viewing", {})
    assert (row.function, row.reason, row.num_warps) == ("copy_kernel", "", 4)


@pytest.mark.usefixtures("tiny")
def test_a_kernel_that_reads_values_is_told_as_one() -> None:
    (row,) = rows_of("reading", {})
    assert (row.status, row.reason) == ("unsupported", inspect.READS_VALUES)
    assert not row.compiled


@pytest.mark.usefixtures("tiny")
def test_what_does_not_compile_is_told_with_its_cause() -> None:
    (row,) = rows_of("misspelt", {})
    assert (row.status, row.reason) == ("error", "CompilationError: NameError('no_such_name is not defined')")


@pytest.mark.usefixtures("faulty_kernels")
@pytest.mark.parametrize(
    ("kernel", "status", "reason"),
    [
        ("raising", "error", "ValueError: this kernel always fails"),
        ("narrow", "unsupported", "only 17 heads"),
        ("absent", "unavailable", "the package a_package_that_is_not_there is not installed"),
    ],
)
def test_a_kernel_that_fails_is_a_row_with_its_reason(kernel: str, status: str, reason: str) -> None:
    (row,) = rows_of(kernel, MLA_16)
    assert (row.status, row.function) == (status, "")
    assert row.reason.startswith(reason)


@pytest.mark.usefixtures("faulty_kernels")
def test_a_compiler_that_dies_costs_its_own_row_only() -> None:
    jobs = [job("crashing", MLA_16), job("raising", MLA_16)]
    told: list[str] = []
    inspection = inspect_kernels(jobs, lambda job, _rows: told.append(job.kernel), processes=2)
    assert sorted(told) == ["crashing", "raising"]
    assert [(row.kernel, row.status, row.reason) for row in inspection.rows] == [
        ("crashing", "error", "the process that compiled it died"),
        ("raising", "error", "ValueError: this kernel always fails"),
    ]


def test_jobs_are_every_configuration_of_a_kernels_contract() -> None:
    names = {kernel.name for kernel in inspect.select_kernels(())}
    gluon = {"mla_decode_gluon", "mla_decode_gluon_few_rows", "grouped_prefill_gluon"}
    assert {"grouped_decode_triton", "grouped_prefill_triton", "mla_decode_triton"} | gluon <= names
    # they launch what the others launch
    assert not names & {"mla_decode", "grouped_prefill"}
    assert len({configuration.name for configuration in CONFIGURATIONS}) == len(CONFIGURATIONS)
    kernels = ("grouped_decode_triton", "grouped_prefill_triton", "mla_decode_triton", "mla_prefill_triton")
    jobs = make_jobs(inspect.select_kernels(kernels), ARCHS)
    assert len(jobs) == len(CONFIGURATIONS) * len(ARCHS)
    with pytest.raises(UsageError, match="unknown architecture 'sm_91': did you mean sm_90"):
        find_archs(["sm_91"])


def test_versions_name_the_compilers() -> None:
    triton_version, ptxas_versions = compiler_versions(ARCHS)
    assert triton_version[0].isdigit()
    assert list(ptxas_versions) == ["sm_80", "sm_90", "sm_100"]
    assert all(version.count(".") == 2 for version in ptxas_versions.values())


def test_an_interpreting_triton_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UsageError, match="unset it"):
        compiler_versions(ARCHS)
