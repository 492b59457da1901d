"""Peers of absorbed MLA decode, on stand-ins for their packages: called as they want it, and right by the check."""

import pytest

from mlabench.measure.kernels import PEERS, find_kernel
from mlabench.measure.peers.sglang_triton import choose_splits, max_splits
from mlabench.measure.peers.vllm_triton import choose_splits as vllm_splits
from tests.measure.peers.conftest import Install, measure

INSTALLED = {
    "mla_decode_flash_mla": ("flash_mla_newest",),
    "mla_decode_flashinfer_fa2": ("others",),
    "mla_decode_flashinfer_fa3": ("others",),
    "mla_decode_flash_attn_3": ("others",),
    "mla_decode_vllm_triton": ("others",),
    "mla_decode_sglang_triton": ("others", "sglang_newer"),
}
"""For each peer the stand-ins that it needs."""

ONE_QUERY = {"mla_decode_vllm_triton": "q_len 1, not 2", "mla_decode_sglang_triton": "q_len 1, not 2"}


def test_every_peer_of_mla_is_tried() -> None:
    assert {kernel.name for kernel in PEERS if kernel.contract == "mla_absorbed"} == set(INSTALLED)


@pytest.mark.parametrize("name", INSTALLED)
def test_without_its_package_a_peer_is_unavailable_with_the_way_to_get_it(name: str) -> None:
    record = measure(name)
    assert (record.status, record.timing) == ("unavailable", None)
    assert f"the package {find_kernel(name).package} is not installed: pip install " in record.reason


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"kv_len": 128, "dtype": "float16"},
        {"kv_len": 90, "kv_len_dist": "ragged", "batch": 5},
        {"kv_len": 90, "q_len": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", INSTALLED)
def test_peers_are_right(install: Install, name: str, axes: dict[str, int | str]) -> None:
    install(*INSTALLED[name])
    record = measure(name, **axes)
    if "q_len" in axes and name in ONE_QUERY:
        assert (record.status, record.timing) == ("unsupported", None)
        assert ONE_QUERY[name] in record.reason
        return
    assert (record.status, record.reason) == ("ok", "")
    assert record.kernel_config is not None
    assert "package" in record.kernel_config
    assert (record.lse_error is not None) == find_kernel(name).writes_lse


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("mla_decode_flash_mla", ("flash_mla_older",)),
        ("mla_decode_flash_attn_3", ("flash_attn", "others")),
        ("mla_decode_sglang_triton", ("others", "sglang_older")),
    ],
)
@pytest.mark.parametrize("q_len", [1, 2])
def test_older_packages_and_other_builds_are_right(
    install: Install, name: str, folders: tuple[str, ...], q_len: int
) -> None:
    install(*folders)
    record = measure(name, q_len=q_len)
    assert record.status == ("unsupported" if q_len > 1 and name in ONE_QUERY else "ok"), record.reason


@pytest.mark.parametrize(
    ("name", "axes", "reason"),
    [
        ("mla_decode_flash_mla", {"page_size": 16}, "FlashMLA takes page_size 64, not 16"),
        ("mla_decode_flash_mla", {"dtype": "float32"}, "FlashMLA takes bfloat16 and float16, not float32"),
        ("mla_decode_flashinfer_fa3", {"kv_lora_rank": 256, "qk_rope_head_dim": 32}, "64, not 256 with 32"),
        ("mla_decode_flash_attn_3", {"kv_lora_rank": 256, "qk_rope_head_dim": 32}, "64, not 256 with 32"),
        ("mla_decode_vllm_triton", {"page_size": 8}, "page sizes that are multiples of 16, not 8"),
        ("mla_decode_vllm_triton", {"num_q_heads": 1}, "takes one query head for attention with a KV head for each"),
        ("mla_decode_sglang_triton", {"dtype": "float32"}, "takes bfloat16 and float16, not float32"),
    ],
)
def test_what_a_peer_does_not_do_is_unsupported(
    install: Install, name: str, axes: dict[str, int | str], reason: str
) -> None:
    install(*INSTALLED[name])
    record = measure(name, **axes)
    assert (record.status, record.timing) == ("unsupported", None)
    assert reason in record.reason


def test_vllms_splits_are_a_power_of_two_for_each_512_tokens_of_the_longest_request() -> None:
    assert [vllm_splits(tokens, 132) for tokens in (1, 1023, 1024, 8192, 10000, 131072, 1 << 20)] == [
        1, 1, 2, 16, 32, 256, 264,
    ]  # fmt: skip


def test_sglangs_splits_follow_the_lengths_and_the_multiprocessors() -> None:
    assert [max_splits(tokens, 132) for tokens in (64, 1024, 131072)] == [8, 32, 256]
    assert choose_splits([8192], 128, 132, 8) == [8]
    assert choose_splits([8192], 128, 132, 256) == [116]
    assert set(choose_splits([8192] * 128, 16, 132, 256)) == {8}
    assert choose_splits([100, 800], 16, 132, 8) == [1, 8]
