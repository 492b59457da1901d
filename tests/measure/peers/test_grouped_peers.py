"""Peers of grouped decode, on stand-ins for their packages and on torch itself."""

import pytest

from mlabench.measure.config import load_config
from mlabench.measure.kernels import PEERS
from mlabench.measure.peers.flashinfer_grouped import workspace_size
from mlabench.measure.plan import chosen_cases, make_points
from tests.cli.commands import ROOT
from tests.measure.peers.conftest import Install, measure

STUDY = ROOT / "results" / "studies" / "grouped-decode"

INSTALLED = {
    "grouped_decode_flashinfer": ("others",),
    "grouped_decode_flash_attn_3": ("others",),
    "grouped_decode_torch_flash": (),
    "grouped_decode_torch_cudnn": (),
}
"""For each peer the stand-ins that it needs."""

GQA = {"variant": "gqa", "num_kv_heads": 2}
SDPA = ("grouped_decode_torch_flash", "grouped_decode_torch_cudnn")


def test_every_peer_of_grouped_attention_is_tried() -> None:
    assert {kernel.name for kernel in PEERS if kernel.contract == "grouped"} == set(INSTALLED)


@pytest.mark.usefixtures("any_sdpa_backend")
@pytest.mark.parametrize(
    "axes",
    [
        GQA,
        {"variant": "mha", "dtype": "float16"},
        {"variant": "mqa", "page_size": 128, "kv_len": 128, "batch": 4},
        {"variant": "mla", "form": "expanded"},
        {**GQA, "kv_len": 90, "kv_len_dist": "ragged", "batch": 5},
        {**GQA, "kv_len": 90, "q_len": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", INSTALLED)
def test_peers_are_right(install: Install, name: str, axes: dict[str, int | str]) -> None:
    install(*INSTALLED[name])
    record = measure(name, **axes)
    if name == "grouped_decode_flashinfer" and axes["variant"] == "mla":
        assert record.status == "unsupported"
        assert record.reason == "FlashInfer takes pages of keys and values of one head dim, not 192 and 128"
        return
    if name in SDPA and ("q_len" in axes or "kv_len_dist" in axes):
        assert (record.status, record.timing) == ("unsupported", None)
        assert ("q_len 1, not 2" if "q_len" in axes else "takes requests of one length") in record.reason
        return
    assert (record.status, record.reason) == ("ok", "")
    assert record.kernel_config is not None
    assert "package" in record.kernel_config


@pytest.mark.usefixtures("any_sdpa_backend")
@pytest.mark.parametrize("name", SDPA)
def test_torch_reads_a_page_a_request_in_place_and_gathers_others(name: str) -> None:
    in_place = measure(name, **GQA, page_size=64, kv_len=64, batch=7)
    gathered = measure(name, **GQA, page_size=32, kv_len=64, batch=7)
    assert (in_place.status, gathered.status) == ("ok", "ok")
    assert (in_place.kernel_config or {})["layout"] == "a page a request, read in place"
    assert (gathered.kernel_config or {})["layout"] == "pages gathered in the call"
    assert in_place.workspace_bytes == 0
    assert gathered.workspace_bytes == 2 * 7 * 64 * 2 * 128 * 2


@pytest.mark.usefixtures("any_sdpa_backend")
@pytest.mark.parametrize(("batch", "copied"), [(1, "the result"), (7, "the queries and the result")])
def test_torch_copies_no_more_than_it_says(batch: int, copied: str) -> None:
    record = measure("grouped_decode_torch_flash", **GQA, page_size=64, kv_len=64, batch=batch)
    assert (record.status, (record.kernel_config or {})["copied"]) == ("ok", copied)
    gathered = measure("grouped_decode_torch_flash", **GQA, page_size=32, kv_len=64, batch=batch)
    assert (gathered.status, (gathered.kernel_config or {})["copied"]) == ("ok", "the result")


def test_a_backend_that_torch_does_not_have_here_is_unsupported() -> None:
    record = measure("grouped_decode_torch_cudnn", **GQA)
    assert record.status == "unsupported"
    assert "CUDNN_ATTENTION backend does not take this shape here" in record.reason


def test_upstreams_flash_attention_3_is_right(install: Install) -> None:
    install("flash_attn", "others")
    assert measure("grouped_decode_flash_attn_3", **GQA, q_len=2).status == "ok"


@pytest.mark.parametrize(("has_vllm", "status"), [(True, "ok"), (False, "unsupported")])
def test_a_build_of_flash_attention_3_without_the_head_dims_is_not_asked(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path, has_vllm: bool, status: str
) -> None:
    (tmp_path / "flash_attn_config.py").write_text(
        "CONFIG = {'build_flags': {'FLASH_ATTENTION_DISABLE_HDIMDIFF192': True}}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    install("flash_attn", *(["others"] if has_vllm else []))
    record = measure("grouped_decode_flash_attn_3", variant="mla", form="expanded")
    assert record.status == status
    if not has_vllm:
        assert "no kernels for head dims 192 of keys and 128 of values" in record.reason


def test_flashinfers_workspace_holds_its_plan() -> None:
    recommended = 128 << 20
    assert workspace_size((1, 1, 32, 128), 8, 132) == recommended
    # What FlashInfer 0.6.4 asked for with these heads on 132 multiprocessors, and a float more a row.
    asked = 2214592512
    for batch in (1, 32):
        assert asked * 129 / 128 <= workspace_size((batch, 1, 128, 128), 1, 132) < asked * 1.01
    assert workspace_size((128, 4, 128, 128), 1, 132) > workspace_size((128, 1, 128, 128), 1, 132)


@pytest.mark.parametrize(("file", "peers"), [("study.toml", {"torch_cudnn"}), ("paged.toml", set())])
def test_the_study_has_six_attentions_at_four_sizes(file: str, peers: set[str]) -> None:
    config = load_config(STUDY / file)
    cases = chosen_cases(config)
    calls = ((1, 32768), (16, 4096), (64, 4096), (128, 8192))
    heads = ((128, 128, 128), (128, 8, 128), (64, 8, 128), (32, 8, 128), (128, 1, 128), (71, 1, 64))
    found = [
        (*(sizes[name] for name in ("num_q_heads", "num_kv_heads", "head_dim")), case.batch, case.kv_len)
        for case in cases
        for sizes in [case.variant.sizes()]
    ]
    assert sorted(found) == sorted((*head, *call) for head in heads for call in calls)
    assert {case.page_size == case.kv_len for case in cases} == {file == "study.toml"}
    backends = {point.kernel.backend for point in make_points(config, "cuda") if point.kernel}
    assert backends == {"triton", "flashinfer", "flash_attn_3", *peers}
