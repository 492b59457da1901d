"""The table of another commit, read without running it."""

from pathlib import Path

from mlabench.measure.base_kernels import TABLE, BaseKernel, read_kernels
from mlabench.measure.kernels import KERNELS

ROOT = Path(__file__).parents[2]


def test_the_table_reads_as_it_runs() -> None:
    assert read_kernels(ROOT) == tuple(BaseKernel(k.name, k.contract, k.devices) for k in KERNELS)


def test_a_table_that_is_not_there_or_not_of_literals_is_empty(tmp_path: Path) -> None:
    assert read_kernels(tmp_path) == ()
    table = tmp_path / TABLE
    table.parent.mkdir(parents=True)
    table.write_text("KERNELS = (Kernel(NAME, 'torch', 'grouped'),)")
    assert read_kernels(tmp_path) == ()
    table.write_text("KERNELS = (Kernel('old', 'torch', 'grouped', unknown=1),)")
    assert read_kernels(tmp_path) == (BaseKernel("old", "grouped", ("cuda",)),)
