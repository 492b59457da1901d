"""A row to change, and inspections of such rows."""

from collections.abc import Sequence

from mlabench.machine_code.rows import Inspection, Row

ROW = Row(
    "mla_decode_triton",
    "MLA 128 heads, bf16",
    "sm_90",
    "mla_decode_kernel",
    "ok",
    config={"block_n": 64},
    num_warps=8,
    registers=168,
    stack_bytes=0,
    spill_stores=0,
    spill_loads=0,
    loop_spills=0,
    shared_bytes=100_000,
    tensor_columns=0,
    matrix_loops=2,
    matrix_waits=4,
    matrix_instructions={"HGMMA": 32},
    async_copies={"UTMALDG": 6},
    ctas_an_sm=2,
    warps_an_sm=16,
    instructions=1000,
)


def inspection(rows: Sequence[Row] = (ROW,), triton: str = "9.9.9", ptxas: str = "12.8.93") -> Inspection:
    return Inspection(triton, {"sm_90": ptxas}, tuple(rows))
