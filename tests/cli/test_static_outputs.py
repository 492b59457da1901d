"""The annotations of the static gate."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.cli.static_outputs import STATIC_FORMATS
from mlabench.machine_code.rows import Row
from mlabench.machine_code.static_gate import StaticResult
from tests.machine_code.rows import ROW, inspection


def annotate(*pairs: tuple[Row, Row]) -> list[str]:
    before, now = zip(*pairs, strict=True)
    return STATIC_FORMATS["github"](StaticResult(Path("stored.json"), before, inspection(now))).splitlines()


def worse(number: int) -> tuple[Row, Row]:
    row = replace(ROW, configuration=f"configuration {number}")
    return row, replace(row, registers=255, spill_loads=2)


def test_a_configuration_has_one_annotation() -> None:
    outcome, line = annotate(worse(1))
    assert outcome.startswith("::error title=mlabench gate --static::static gate: FAIL (1)")
    title = "worse%3A mla_decode_triton%3A mla_decode_kernel"
    told = "configuration 1, sm_90: spill_loads 0 is now 2, registers 168 is now 255"
    assert line == f"::error title={title}::{told}"


def test_a_gate_that_passes_has_one() -> None:
    (line,) = annotate((ROW, ROW))
    assert line.startswith("::notice title=mlabench gate --static::static gate: PASS (0)")


@pytest.mark.parametrize(("configurations", "left"), [(9, None), (10, 4), (30, 44)])
def test_the_last_of_too_many_counts_the_rest(configurations: int, left: int | None) -> None:
    lines = annotate(*map(worse, range(configurations)))
    assert len(lines) == 10
    assert lines[-1].startswith(f"::error title=mlabench gate --static%3A {left} more::") is (left is not None)
