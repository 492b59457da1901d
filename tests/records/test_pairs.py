"""A compared pair: its blocks, and the line that it is stored as."""

import json
import math
from pathlib import Path

import pytest

from mlabench.errors import UsageError
from mlabench.records.pairs import PAIRS_NAME, Block, Pair, Plan, Side, append_pair, load_pairs
from mlabench.records.store import StoreError
from tests.factories import make_case

PAIR = Pair(
    make_case(kv_len=8192),
    Side("old", "triton", "0123456789abcdef", "ok", relative_error=1e-3, kernel_config={"splits": 4}),
    Side("new", "triton", status="ok"),
    "graph",
    "cold",
    7,
    Plan((12, 24), 5.0, 0.01, 0.2, 0.05),
    (Block(True, (10.0, 11.0, 30.0), (20.0, 22.0, 22.5), (1900.0,) * 3, (1800.0,) * 3), Block(False, (9.0,), (9.5,))),
    "decided",
    telemetry={"power_w": [1.0, 2.0]},
)


def test_a_block_is_worth_the_ratio_of_its_medians() -> None:
    block = PAIR.blocks[0]
    assert block.log_ratio == pytest.approx(math.log(2.0))
    assert block.log_cycles_ratio == pytest.approx(math.log(2.0 * 1800 / 1900))
    assert PAIR.blocks[1].log_cycles_ratio is None


def test_a_block_whose_clocks_stood_still_has_no_cycles() -> None:
    assert Block(True, (1.0,), (1.0,), (0.0,), (1800.0,)).log_cycles_ratio is None


def test_a_side_is_named_with_its_commit() -> None:
    assert PAIR.base.label == "old@0123456"
    assert PAIR.candidate.label == "new"


def test_pairs_are_stored_whole_and_read_back(tmp_path: Path) -> None:
    append_pair(tmp_path, PAIR)
    append_pair(tmp_path, PAIR)
    assert load_pairs(tmp_path) == [PAIR, PAIR]
    assert load_pairs(tmp_path / PAIRS_NAME) == [PAIR, PAIR]
    plain = json.loads((tmp_path / PAIRS_NAME).read_text().splitlines()[0])
    assert plain["case_id"] == PAIR.case.case_id
    assert plain["blocks"][0]["base_us"] == [10.0, 11.0, 30.0]


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    append_pair(tmp_path, PAIR)
    with (tmp_path / PAIRS_NAME).open("ab") as file:
        file.write(b'{"case":')
    assert load_pairs(tmp_path) == [PAIR]


def test_what_is_no_pair_is_named_with_its_place(tmp_path: Path) -> None:
    append_pair(tmp_path, PAIR)
    with (tmp_path / PAIRS_NAME).open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(UsageError, match=f"{PAIRS_NAME}, line 2: not a compared pair"):
        load_pairs(tmp_path)
    with pytest.raises(UsageError, match=r"cannot read .*nowhere"):
        load_pairs(tmp_path / "nowhere")


def test_a_pair_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot append to"):
        append_pair(tmp_path / "nowhere", PAIR)
