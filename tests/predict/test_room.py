"""Models that one GPU of some cannot hold."""

from pathlib import Path

import pytest

from mlabench.predict.hardware import choose_gpus
from mlabench.predict.presets import choose_models
from mlabench.predict.room import TooLarge, too_large
from mlabench.predict.rows import make_points

GPUS = choose_gpus(["h200-sxm"])


def test_a_model_is_named_with_the_ranks_that_hold_it() -> None:
    points = make_points(choose_models(["deepseek-v3", "llama-3.1-8b"]), {"batch": (1, 128)}, tps=(1, 4, 8))
    assert too_large(points, GPUS) == (
        TooLarge("deepseek-v3", "h200-sxm", 1, 671e9, 141e9, 8),
        TooLarge("deepseek-v3", "h200-sxm", 4, 671e9 / 4, 141e9, 8),
    )


def test_replicas_share_what_is_not_attention() -> None:
    points = make_points(choose_models(["deepseek-v3"]), {}, dps=(1, 8))
    assert [large.weights_bytes_per_gpu for large in too_large(points, GPUS)] == [671e9]


@pytest.mark.parametrize("sizes", ["", "num_parameters = 1_000_000_000_000\n"])
def test_what_is_not_known_is_not_said(sizes: str, tmp_path: Path) -> None:
    models, gpus = tmp_path / "models.toml", tmp_path / "gpus.toml"
    models.write_text(f'[mine]\nvariant = "mqa"\nnum_layers = 3\nnum_q_heads = 4\nhead_dim = 16\n{sizes}')
    gpus.write_text("[card]\nmemory_bytes_per_s = 1e12\nbfloat16_flops_per_s = 1e14\n")
    points = make_points(choose_models([], models), {})
    assert too_large(points, choose_gpus([], gpus)) == ()
    told = too_large(points, GPUS)
    assert [large.least_tp for large in told] == ([None] if sizes else [])
