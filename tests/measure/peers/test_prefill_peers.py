"""Peers of grouped prefill, on stand-ins for their packages and on torch itself."""

import pytest

from mlabench.measure.config import load_config
from mlabench.measure.inputs import make_inputs
from mlabench.measure.kernels import PEERS, find_kernel
from mlabench.measure.peers.dense import find_dense
from mlabench.measure.plan import chosen_cases, make_points
from tests.cli.commands import ROOT
from tests.measure.peers.conftest import Install, measure, small_case

FLASH_ATTN, FLASHINFER = "grouped_prefill_flash_attn_3", "grouped_prefill_flashinfer"
SDPA = ("grouped_prefill_torch_flash", "grouped_prefill_torch_cudnn")
NAMES = (FLASH_ATTN, FLASHINFER, *SDPA)

PREFILL = {"phase": "prefill", "variant": "gqa", "num_kv_heads": 2}
EXPANDED = {"phase": "prefill", "variant": "mla", "form": "expanded"}
ONE_PAGE = {"page_size": 64, "kv_len": 64}
STUDY = ROOT / "results" / "studies" / "prefill"
PAGED, RAGGED = "BatchPrefillWithPagedKVCacheWrapper", "BatchPrefillWithRaggedKVCacheWrapper"
IN_PLACE, GATHERED = "pages in order, read in place", "pages gathered in the call"
SEED_IN_ORDER = 15
"""Of which the pages of four requests, a page each, come in the requests' order."""


def test_every_peer_of_prefill_is_tried() -> None:
    assert {kernel.name for kernel in PEERS if kernel.contract.endswith("_prefill")} == set(NAMES)


@pytest.mark.usefixtures("any_sdpa_backend")
@pytest.mark.parametrize(
    "axes",
    [
        PREFILL,
        {**PREFILL, **ONE_PAGE, "batch": 1},
        {**PREFILL, "variant": "mha", "dtype": "float16", "head_dim": 64},
        {**PREFILL, "variant": "mqa", "page_size": 128, "kv_len": 128, "batch": 4},
        {**PREFILL, "q_len": 1},
        {**PREFILL, "kv_len": 200, "q_len": 33},
        {**PREFILL, "kv_len": 90, "kv_len_dist": "ragged", "batch": 5},
        {**PREFILL, "kv_len": 90, "q_len": 30, "kv_len_dist": "ragged", "batch": 5, "page_size": 16},
        EXPANDED,
        {**EXPANDED, "kv_len": 90, "q_len": 30, "kv_len_dist": "ragged", "batch": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", NAMES)
def test_peers_are_right(install: Install, name: str, axes: dict[str, int | str]) -> None:
    install("others")
    record = measure(name, **axes)
    if name in SDPA and ("q_len" in axes or "kv_len_dist" in axes):
        assert (record.status, record.timing) == ("unsupported", None)
        assert record.reason.endswith(" backend takes whole prompts of one length, without a cached prefix")
        return
    assert (record.status, record.reason) == ("ok", "")
    assert record.kernel_config is not None
    assert "package" in record.kernel_config
    assert (record.lse_error is not None) == find_kernel(name).writes_lse == (name == FLASH_ATTN)


@pytest.mark.parametrize(
    "axes", [{"q_len": 1}, {"kv_len": 200, "q_len": 33, "kv_len_dist": "ragged"}, EXPANDED], ids=str
)
def test_upstreams_flash_attention_3_is_right(install: Install, axes: dict[str, int | str]) -> None:
    install("flash_attn", "others")
    assert measure(FLASH_ATTN, **PREFILL | axes).status == "ok"


@pytest.mark.parametrize("name", [FLASH_ATTN, FLASHINFER])
def test_without_its_package_a_peer_is_unavailable_with_the_way_to_get_it(name: str) -> None:
    record = measure(name, **PREFILL)
    assert record.status == "unavailable"
    assert f"the package {find_kernel(name).package} is not installed: pip install " in record.reason


@pytest.mark.parametrize(
    ("axes", "seed", "wrapper", "layout"),
    [
        (PREFILL, 0, PAGED, None),
        ({**PREFILL, **ONE_PAGE, "batch": 4}, 0, PAGED, None),
        ({**PREFILL, **ONE_PAGE, "batch": 4}, SEED_IN_ORDER, RAGGED, IN_PLACE),
        ({**PREFILL, **ONE_PAGE, "batch": 1}, 0, RAGGED, IN_PLACE),
        ({**EXPANDED, **ONE_PAGE, "batch": 1, "q_len": 7}, 0, RAGGED, IN_PLACE),
        (EXPANDED, 0, RAGGED, GATHERED),
    ],
    ids=str,
)
def test_flashinfer_goes_without_pages_where_they_lie_in_order_or_it_has_none(
    install: Install, axes: dict[str, int | str], seed: int, wrapper: str, layout: str | None
) -> None:
    install("others")
    record = measure(FLASHINFER, seed, **axes)
    config = record.kernel_config or {}
    assert (record.status, config["wrapper"], config.get("layout")) == ("ok", wrapper, layout)
    assert config.get("flashinfer_backend") == ("fa3" if wrapper == RAGGED else None)


def test_what_flashinfer_gathers_is_counted_as_its_workspace(install: Install) -> None:
    install("others")
    axes = {**EXPANDED, **ONE_PAGE, "batch": 4}
    in_place, gathered = (measure(FLASHINFER, seed, **axes) for seed in (SEED_IN_ORDER, 0))
    assert (gathered.kernel_config or {})["layout"] == GATHERED
    assert (gathered.workspace_bytes or 0) - (in_place.workspace_bytes or 0) == 4 * 64 * 4 * (192 + 128) * 2


def test_head_dims_that_flashinfer_has_no_kernel_for_are_unsupported(install: Install) -> None:
    install("others")
    record = measure(FLASHINFER, **PREFILL, head_dim=96)
    assert (record.status, record.timing) == ("unsupported", None)
    assert record.reason == "FlashInfer's prefill has no kernel for head dims 96 of keys and 96 of values"


@pytest.mark.usefixtures("any_sdpa_backend")
@pytest.mark.parametrize("name", SDPA)
def test_torch_reads_pages_that_lie_in_order_in_place_and_gathers_others(name: str) -> None:
    axes = {**PREFILL, **ONE_PAGE, "batch": 4}
    layouts = [(measure(name, seed, **axes).kernel_config or {})["layout"] for seed in (SEED_IN_ORDER, 0)]
    assert layouts == [IN_PLACE, GATHERED]


def test_a_backend_that_torch_does_not_have_here_is_unsupported() -> None:
    record = measure("grouped_prefill_torch_cudnn", **PREFILL)
    assert record.status == "unsupported"
    assert record.reason == "torch's CUDNN_ATTENTION backend does not take this shape here"


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_is_unsupported(install: Install, name: str) -> None:
    install("others")
    record = measure(name, **PREFILL, dtype="float32")
    assert record.status == "unsupported"
    assert record.reason.endswith("takes bfloat16 and float16, not float32")


@pytest.mark.parametrize(("file", "kernels"), [("study.toml", NAMES), ("paged.toml", (FLASH_ATTN, FLASHINFER))])
def test_the_study_has_whole_prompts_of_three_lengths(file: str, kernels: tuple[str, ...]) -> None:
    config = load_config(STUDY / file)
    cases = chosen_cases(config)
    shapes = {(case.variant.label, case.batch, case.kv_len) for case in cases}
    prompts = ((4, 2048), (1, 8192), (1, 16384))
    labels = ("MHA (128 heads)", "GQA-8 (64 heads)", "MLA expanded (128 heads)")
    assert shapes == {(label, *prompt) for label in labels for prompt in prompts}
    assert len(cases) == len(shapes)
    assert all(case.q_lens == case.kv_lens for case in cases)
    assert {case.page_size == case.kv_len for case in cases} == {file == "study.toml"}
    points = make_points(config, "cuda")
    assert {point.kernel and point.kernel.name for point in points} == {*kernels, "grouped_prefill"}


@pytest.mark.parametrize("batch", [1, 4])
def test_the_pages_of_the_study_lie_in_order(batch: int) -> None:
    case = small_case(**EXPANDED, **ONE_PAGE, batch=batch)
    inputs = make_inputs(case, load_config(STUDY / "study.toml").seed, "cpu")
    assert find_dense(inputs["block_table"], inputs["kv_lens"], case.page_size).in_place
