"""Tensor parallelism: what is split, what is held by every rank, and what cannot be."""

import pytest

from mlabench.cases.grouped import Grouped
from mlabench.cases.mla import Mla
from mlabench.errors import UsageError
from mlabench.predict.ranks import on_one_rank, possible_tps


def test_kv_heads_are_split_down_to_one_and_then_held_by_several() -> None:
    gqa = Grouped(num_q_heads=64, num_kv_heads=8, head_dim=128)
    assert [on_one_rank(gqa, tp) for tp in (1, 4, 8, 16)] == [
        gqa,
        Grouped(num_q_heads=16, num_kv_heads=2, head_dim=128),
        Grouped(num_q_heads=8, num_kv_heads=1, head_dim=128),
        Grouped(num_q_heads=4, num_kv_heads=1, head_dim=128),
    ]


def test_the_latent_is_whole_on_every_rank() -> None:
    sizes = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
    assert on_one_rank(Mla(num_q_heads=128, **sizes), 8) == Mla(num_q_heads=16, **sizes)


@pytest.mark.parametrize(
    ("variant", "tp", "works"),
    [
        (Grouped(num_q_heads=28, num_kv_heads=4, head_dim=128), 14, "1, 2, 4, 28"),
        (Grouped(num_q_heads=71, num_kv_heads=1, head_dim=64), 2, "1, 71"),
        (Mla(20, 512, 192, 64, 256), 8, "1, 2, 4, 5, 10, 20"),
    ],
)
def test_heads_that_do_not_split_name_what_works(variant: Grouped | Mla, tp: int, works: str) -> None:
    with pytest.raises(UsageError, match=f"--tp {tp} does not split .* choose among {works}$"):
        on_one_rank(variant, tp)
    assert ", ".join(map(str, possible_tps(variant))) == works
