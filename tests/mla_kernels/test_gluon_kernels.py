"""What the Gluon kernels compile to for sm_90, without a GPU."""

from importlib.util import find_spec

import pytest

from mlabench.machine_code.archs import find_archs
from mlabench.machine_code.inspect import inspect_kernels, make_jobs, select_kernels
from mlabench.machine_code.rows import Row

CONFIGURATIONS = (
    "MLA 16 heads, bf16",
    "MLA 32 heads, fp16",
    "MLA 16 heads, bf16, batch 1",
    "MLA 128 heads, bf16",
    "MLA 128 heads, bf16, uncut",
    "MLA 128 heads, bf16, page 16",
    "MLA 128 heads, bf16, page 32",
    "prefill, MHA, bf16",
    "prefill, MHA, fp16",
    "prefill, GQA-8, bf16",
    "prefill, GQA-8, page 16, bf16",
    "prefill, GQA-8, page 128, bf16",
    "prefill, GQA-8, head dim 64, bf16",
    "prefill, MLA expanded, bf16",
    "prefill, MLA expanded, page 16, bf16",
    "prefill, MLA absorbed, bf16",
    "prefill, MLA absorbed, page 16, bf16",
)
LIMITS = {
    "mla_decode_gluon": (12, 3),
    "mla_decode_gluon_few_rows": (5, 3),
    "grouped_prefill_gluon": (12, 8),
    "mla_prefill_gluon": (12, 3),
}
"""Of each kernel the warps that a program has, and the most waits for products: those that its source has."""

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="module")
def machine_code() -> tuple[Row, ...]:
    """What the kernels launch in those of the configurations that they take, without the one that merges the parts."""
    jobs = [
        job
        for job in make_jobs(select_kernels(["gluon"]), find_archs(["sm_90"]))
        if job.configuration.name in CONFIGURATIONS
    ]
    rows = inspect_kernels(jobs).rows
    assert {row.configuration for row in rows if row.compiled} == set(CONFIGURATIONS)
    assert {row.status for row in rows} == {"ok"}
    return tuple(row for row in rows if row.compiled and row.function != "combine_kernel")


def test_loops_over_the_cache_do_not_spill(machine_code):
    assert all(row.matrix_loops for row in machine_code)
    assert {row.key: row.loop_spills for row in machine_code if row.loop_spills} == {}


def test_products_are_the_warp_groups_and_stay_in_flight(machine_code):
    for row in machine_code:
        assert row.matrix_instructions.keys() == {"HGMMA"}, row.key
        assert row.async_copies["UTMALDG"], row.key
        assert row.async_copies.keys() <= {"UTMALDG", "UTMASTG"}, row.key
        # one wait after each instruction is how ptxas serialises what it could not keep in flight
        assert row.matrix_waits <= LIMITS[row.kernel][1], row.key


def test_all_warps_of_a_program_fit_an_sm(machine_code):
    for row in machine_code:
        assert row.num_warps >= LIMITS[row.kernel][0], row.key
        assert row.ctas_an_sm >= 1, row.key
