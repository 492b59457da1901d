"""Runs the Triton kernels of one module in Triton's interpreter; started by the tests in a process of its own.

`python -m tests.mla_kernels.interpreted KIND`, one of those in `main`, with TRITON_INTERPRET=1, prints a JSON object:
case -> what is wrong with it, empty where nothing is.
"""

import ctypes
import json
import mmap
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from unittest.mock import patch

import torch
import triton
import triton.language as tl
from torch import Tensor

from mla_kernels import reference
from mla_kernels.split_kv import part_bounds, parts_of, plan
from tests.mla_kernels import cases, prefill_cases

SCALE = 0.15
RAGGED = (0, 1, 63, 64, 65, 300)
FLOAT16, FLOAT32 = torch.float16, torch.float32
WHOLE = {"num_splits": 1}

MLA_CASES = (
    # name, sizes, tunables
    ("one row, TMA", {"lens": RAGGED, "num_q_heads": 1, "page_size": 64, "dtype": FLOAT16}, {}),
    (
        "one row, whole requests",
        {"lens": RAGGED, "num_q_heads": 1, "page_size": 64, "dtype": FLOAT16},
        {"num_splits": 1},
    ),
    ("20 heads, three queries", {"lens": RAGGED, "q_len": 3, "num_q_heads": 20, "page_size": 16, "dtype": FLOAT16}, {}),
    (
        "20 heads, many splits",
        {"lens": RAGGED, "num_q_heads": 20, "page_size": 64, "dtype": FLOAT16},
        {"num_splits": 11},
    ),
    ("128 heads", {"lens": (200, 3), "num_q_heads": 128, "page_size": 64, "dtype": FLOAT16}, {"num_splits": 3}),
    ("128 heads, two queries", {"lens": (130, 1), "q_len": 2, "num_q_heads": 128, "dtype": FLOAT16}, WHOLE),
    ("one request", {"lens": (1000,), "num_q_heads": 4, "page_size": 64, "dtype": FLOAT16}, {"num_splits": 5}),
    ("more queries than tokens", {"lens": (2, 0), "q_len": 3, "num_q_heads": 4, "dtype": FLOAT32}, {}),
    ("float32, page 1", {"lens": RAGGED, "q_len": 3, "num_q_heads": 4, "page_size": 1, "dtype": FLOAT32}, {}),
    ("float32, page 24", {"lens": RAGGED, "num_q_heads": 4, "page_size": 24, "dtype": FLOAT32}, {"num_splits": 2}),
    ("page 128", {"lens": (300, 129), "num_q_heads": 16, "page_size": 128, "dtype": FLOAT16}, {}),
    ("16 rows swapped", {"lens": RAGGED, "num_q_heads": 16, "page_size": 64, "dtype": FLOAT16}, {"swap": 1}),
    ("64 rows swapped", {"lens": (100, 1), "num_q_heads": 64, "page_size": 64, "dtype": FLOAT16}, {"swap": 1}),
    ("a request a part", {"lens": (300, 310, 320), "dtype": FLOAT16}, {"num_splits": 3}),
    ("two requests a part", {"lens": (300, 310, 320, 0), "dtype": FLOAT16}, {"num_splits": 2}),
)
GROUPED_CASES = (
    ("MHA", {"lens": RAGGED, "num_q_heads": 4, "num_kv_heads": 4, "page_size": 64, "dtype": FLOAT16}, {}),
    ("MHA, whole requests", {"lens": RAGGED, "num_q_heads": 4, "num_kv_heads": 4, "dtype": FLOAT16}, WHOLE),
    ("GQA, three queries", {"lens": RAGGED, "q_len": 3, "num_q_heads": 8, "dtype": FLOAT16}, {}),
    ("GQA, float32, page 1", {"lens": RAGGED, "q_len": 3, "num_q_heads": 8, "page_size": 1, "dtype": FLOAT32}, {}),
    ("MQA, 20 heads", {"lens": RAGGED, "num_q_heads": 20, "num_kv_heads": 1, "page_size": 64, "dtype": FLOAT16}, {}),
    (
        "MQA, 128 heads",
        {"lens": (200, 3), "num_q_heads": 128, "num_kv_heads": 1, "page_size": 64, "dtype": FLOAT16},
        {"num_splits": 3},
    ),
    (
        "expanded MLA, 192 and 128",
        {"lens": (130, 64), "num_kv_heads": 4, "qk_dim": 192, "v_dim": 128, "page_size": 64, "dtype": FLOAT16},
        {},
    ),
    (
        "head dims 80 and 48",
        {"lens": (65, 2), "q_len": 2, "qk_dim": 80, "v_dim": 48, "page_size": 64, "dtype": FLOAT16},
        {},
    ),
    ("head dims 112 and 40", {"lens": (65, 2), "qk_dim": 112, "v_dim": 40, "page_size": 64, "dtype": FLOAT16}, {}),
    ("float32, page 24", {"lens": RAGGED, "page_size": 24, "dtype": FLOAT32}, {"num_splits": 2}),
    ("more queries than tokens", {"lens": (2, 0), "q_len": 3, "dtype": FLOAT32}, {}),
    ("one request", {"lens": (1000,), "page_size": 64, "dtype": FLOAT16}, {"num_splits": 5}),
    ("tokens not swapped", {"lens": RAGGED, "page_size": 64, "dtype": FLOAT16}, {"swap": 0}),
)
PREFILL_LENS = {"kv_lens": (300, 0, 64, 65, 1, 200, 130), "q_lens": (37, 0, 64, 0, 1, 5, 130)}
SMALL_HEADS = {"num_q_heads": 5, "num_kv_heads": 5, "qk_dim": 16, "v_dim": 16}
PREFILL_CASES = (
    # name, sizes, tunables, and what L2 holds
    ("GQA", {**PREFILL_LENS, "page_size": 64, "dtype": FLOAT16}, {}),
    ("GQA, page 1", {**PREFILL_LENS, "page_size": 1, "dtype": FLOAT32}, {}),
    ("MHA, page 24", {**PREFILL_LENS, "num_kv_heads": 4, "page_size": 24, "dtype": FLOAT32}, {}),
    ("MHA, page 16", {**PREFILL_LENS, "num_kv_heads": 4, "page_size": 16, "dtype": FLOAT16}, {}),
    ("MQA, page 128", {**PREFILL_LENS, "num_q_heads": 8, "num_kv_heads": 1, "page_size": 128, "dtype": FLOAT16}, {}),
    (
        "MQA, tiles of 128 rows and tokens",
        {**PREFILL_LENS, "num_q_heads": 20, "num_kv_heads": 1, "page_size": 128, "dtype": FLOAT16},
        {"block_m": 128, "block_n": 128, "num_warps": 8},
    ),
    ("tiles of 16 rows", {**PREFILL_LENS, "page_size": 64, "dtype": FLOAT16}, {"block_m": 16}),
    (
        "expanded MLA, 192 and 128",
        {**PREFILL_LENS, "num_q_heads": 2, "qk_dim": 192, "v_dim": 128, "page_size": 64, "dtype": FLOAT16},
        {},
    ),
    (
        "expanded MLA, page 16",
        {"kv_lens": (130, 64), "q_lens": (3, 64), "qk_dim": 192, "v_dim": 128, "page_size": 16, "dtype": FLOAT16},
        {},
    ),
    ("head dims 80 and 80", {**PREFILL_LENS, "qk_dim": 80, "v_dim": 80, "page_size": 64, "dtype": FLOAT16}, {}),
    ("head dims 112 and 40", {**PREFILL_LENS, "qk_dim": 112, "v_dim": 40, "page_size": 64, "dtype": FLOAT16}, {}),
    (
        "head dim 256",
        {"kv_lens": (130, 64), "q_lens": (3, 64), "qk_dim": 256, "v_dim": 256, "page_size": 64, "dtype": FLOAT16},
        {},
    ),
    ("one request", {"kv_lens": (200,), "q_lens": (150,), "page_size": 64, "dtype": FLOAT16}, {}),
    ("more queries than tokens", {"kv_lens": (2, 0, 5), "q_lens": (40, 3, 6), "dtype": FLOAT32}, {}),
    (
        "one head at a time",
        {"kv_lens": (90, 30), "q_lens": (90, 20), **SMALL_HEADS, "dtype": FLOAT32},
        {"l2_bytes": 1},
    ),
    (
        "two heads at a time of the longer request",
        {"kv_lens": (90, 30), "q_lens": (90, 20), **SMALL_HEADS, "dtype": FLOAT32},
        {"l2_bytes": 2 * 2 * 90 * 32 * 4},
    ),
)
WHOLE_PAGES = {"kv_lens": (64, 0, 192), "q_lens": (64, 2, 5), "dtype": FLOAT16}
TIGHT_CASES = (
    ("blocks are pages, TMA", {**WHOLE_PAGES, "page_size": 64}, {"use_tma": 1}),
    ("blocks are halves of pages, TMA", {**WHOLE_PAGES, "page_size": 64}, {"use_tma": 1, "block_n": 32}),
    ("page 16", {**WHOLE_PAGES, "page_size": 16}, {}),
    ("a tail", {"kv_lens": (64, 150), "q_lens": (3, 150), "page_size": 64, "dtype": FLOAT16}, {"use_tma": 1}),
)
MLA_PREFILL_CASES = (
    ("4 heads, TMA", {**PREFILL_LENS, "page_size": 64, "dtype": FLOAT16}, {}),
    ("4 heads, no TMA", {**PREFILL_LENS, "page_size": 64, "dtype": FLOAT16}, {"use_tma": 0}),
    ("one head", {**PREFILL_LENS, "num_q_heads": 1, "page_size": 128, "dtype": FLOAT16}, {}),
    ("20 heads", {**PREFILL_LENS, "num_q_heads": 20, "page_size": 64, "dtype": FLOAT16}, {}),
    (
        "128 heads",
        {"kv_lens": (130, 0, 70), "q_lens": (3, 0, 4), "num_q_heads": 128, "page_size": 64, "dtype": FLOAT16},
        {},
    ),
    ("page 1", {**PREFILL_LENS, "page_size": 1, "dtype": FLOAT32}, {}),
    ("page 16", {**PREFILL_LENS, "page_size": 16, "dtype": FLOAT16}, {}),
    ("page 24", {**PREFILL_LENS, "num_q_heads": 3, "page_size": 24, "dtype": FLOAT32}, {}),
    ("page 32", {**PREFILL_LENS, "page_size": 32, "dtype": FLOAT16}, {}),
    ("page 32, blocks of 32", {**PREFILL_LENS, "page_size": 32, "dtype": FLOAT16}, {"block_n": 32}),
    ("tiles of 16 rows", {**PREFILL_LENS, "page_size": 64, "dtype": FLOAT16}, {"block_m": 16}),
    (
        "512 and 64",
        {
            "kv_lens": (130, 64), "q_lens": (9, 1), "num_q_heads": 16, "kv_lora_rank": 512, "rope_dim": 64,
            "page_size": 64, "dtype": FLOAT16,
        },
        {},
    ),
    (
        "256 and 32, float32",
        {"kv_lens": (70, 20), "q_lens": (5, 20), "kv_lora_rank": 256, "rope_dim": 32, "dtype": FLOAT32},
        {},
    ),
    ("one request", {"kv_lens": (200,), "q_lens": (150,), "page_size": 64, "dtype": FLOAT16}, {}),
    ("more queries than tokens", {"kv_lens": (2, 0, 5), "q_lens": (40, 3, 6), "dtype": FLOAT32}, {}),
    (
        "many requests",
        {"kv_lens": tuple(range(40)), "q_lens": tuple(i * (i % 3) // 2 for i in range(40)), "dtype": FLOAT16},
        {},
    ),
)  # fmt: skip
CHOSEN_CASES = (
    ("20 heads, three queries", {"lens": RAGGED, "q_len": 3, "num_q_heads": 20, "dtype": FLOAT32}, {}),
    ("batch-invariant", {"lens": RAGGED, "dtype": FLOAT32}, {"batch_invariant": True}),
)


def run_mla(sizes: dict, tunables: dict) -> str:
    """One absorbed MLA case."""
    from mla_kernels import mla_decode_triton

    inputs = cases.mla(**sizes)
    tensors = cases.with_outputs(inputs, 32)
    mla_decode_triton.bind(**tensors, softmax_scale=SCALE, **tunables)()
    expected = reference.mla_absorbed_decode(**inputs, kv_lora_rank=32, softmax_scale=SCALE)
    return cases.mismatch(sizes["dtype"], tensors["out"], expected[0], tensors["lse"], expected[1])


def run_grouped(sizes: dict, tunables: dict) -> str:
    """One grouped case."""
    from mla_kernels import grouped_decode_triton

    inputs = cases.grouped(**sizes)
    tensors = cases.with_outputs(inputs, inputs["v_cache"].shape[3])
    grouped_decode_triton.bind(**tensors, softmax_scale=SCALE, **tunables)()
    expected = reference.grouped_decode(**inputs, softmax_scale=SCALE)
    return cases.mismatch(sizes["dtype"], tensors["out"], expected[0], tensors["lse"], expected[1])


def run_prefill(sizes: dict, options: dict) -> str:
    """One grouped prefill case."""
    from mla_kernels import grouped_prefill_triton as module

    tensors = prefill_cases.with_outputs(prefill_cases.grouped(**sizes))
    tunables = {name: value for name, value in options.items() if name != "l2_bytes"}
    with patch.object(module, "L2_BYTES", options.get("l2_bytes", module.L2_BYTES)):
        launch = module.bind(**tensors, softmax_scale=SCALE, **tunables)
    return call_twice(launch, tensors)


def run_mla_prefill(sizes: dict, tunables: dict) -> str:
    """One absorbed MLA prefill case."""
    from mla_kernels import mla_prefill_triton

    tensors = prefill_cases.mla(**sizes)
    return call_twice(mla_prefill_triton.bind(**tensors, softmax_scale=SCALE, **tunables), tensors)


def call_twice(launch: Callable[[], None], tensors: dict[str, Tensor]) -> str:
    """A prefill call, and another with shorter caches and queries that moved to the last request."""
    launch()
    wrong = prefill_cases.mismatch(tensors, SCALE)
    tensors["kv_lens"] -= tensors["kv_lens"] // 3
    tensors["q_starts"][:-1] //= 2
    prefill_cases.poison(tensors)
    launch()
    return wrong or prefill_cases.mismatch(tensors, SCALE)


def run_tight(sizes: dict, tunables: dict) -> str:
    """One grouped prefill case at the end of memory."""
    from mla_kernels import grouped_prefill_triton

    tensors = tightened(prefill_cases.with_outputs(prefill_cases.grouped(**sizes)))
    grouped_prefill_triton.bind(**tensors, softmax_scale=SCALE, **tunables)()
    return prefill_cases.mismatch(tensors, SCALE)


def run_tight_mla(sizes: dict, tunables: dict) -> str:
    """One absorbed MLA prefill case at the end of memory."""
    from mla_kernels import mla_prefill_triton

    tensors = tightened(prefill_cases.mla(**sizes))
    mla_prefill_triton.bind(**tensors, softmax_scale=SCALE, **tunables)()
    return prefill_cases.mismatch(tensors, SCALE)


def tightened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A prefill case's tensors, whose table, lengths and starts end where memory does; two rows are no request's."""
    tensors["block_table"] = tensors["block_table"][:, :-1]  # of which the last request fills its row
    tensors["q_starts"][-1] -= 2
    tables = {name: at_the_end_of_memory(tensors[name]) for name in ("block_table", "kv_lens", "q_starts")}
    return tensors | tables


def at_the_end_of_memory(tensor: Tensor) -> Tensor:
    """A copy with a page behind it that must not be touched: reading past its end kills the process."""
    size = -(-tensor.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    page = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory, size)))
    if ctypes.CDLL(None).mprotect(page, ctypes.c_size_t(mmap.PAGESIZE), 0):
        raise OSError("mprotect failed")
    flat = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=size - tensor.nbytes)
    return flat.view(tensor.shape).copy_(tensor)


def run_prefill_call(sizes: dict, _options: dict) -> str:
    """One grouped prefill case by the plain call, which allocates its outputs and picks the kernel."""
    from mla_kernels import grouped_prefill

    inputs = prefill_cases.grouped(**sizes)
    choice = grouped_prefill.choose(inputs["q"], inputs["v_cache"], inputs["kv_lens"])
    if choice != "grouped_prefill_triton":
        return f"{choice} was picked"
    out, lse = grouped_prefill.grouped_prefill(**inputs, softmax_scale=SCALE)
    return prefill_cases.mismatch(inputs | {"out": out, "lse": lse}, SCALE)


def run_chosen(sizes: dict, options: dict) -> str:
    """One absorbed MLA case by the plain call, which allocates its outputs and picks the kernel."""
    from mla_kernels import mla_decode

    inputs = cases.mla(**sizes)
    if (choice := mla_decode.choose(inputs["q"], inputs["kv_cache"], inputs["block_table"], 32)) != "mla_decode_triton":
        return f"{choice} was picked"
    out, lse = mla_decode.mla_decode(**inputs, kv_lora_rank=32, softmax_scale=SCALE, **options)
    expected = reference.mla_absorbed_decode(**inputs, kv_lora_rank=32, softmax_scale=SCALE)
    return cases.mismatch(sizes["dtype"], out, expected[0], lse, expected[1])


PARTS_CASES = (
    # name, lengths in blocks of 64 tokens, parts, and the parts that have work
    ("one length, four parts a request", {"blocks": (16,) * 32, "num_splits": 132}, 128),
    ("one length, a part a request", {"blocks": (7,) * 8, "num_splits": 8}, 8),
    ("nearly one length", {"blocks": (64, 66, 64, 64), "num_splits": 17}, 16),
    ("one length, as many for each would leave too many out", {"blocks": (16,) * 5, "num_splits": 8}, 8),
    ("more requests than parts", {"blocks": (4,) * 6, "num_splits": 4}, 4),
    ("ragged", {"blocks": (100, 3, 0, 1, 20, 2, 2, 1), "num_splits": 17}, 17),
    ("ragged, fewer blocks than parts", {"blocks": (5, 0, 1), "num_splits": 33}, 6),
    ("one request, fewer blocks than parts", {"blocks": (5,), "num_splits": 8}, 5),
    ("one request, some parts longer", {"blocks": (21,), "num_splits": 8}, 7),
    ("nothing", {"blocks": (0, 0, 0), "num_splits": 4}, 0),
    ("ragged, short parts", {"blocks": (9, 1, 1, 0, 1, 30, 7, 2, 2, 12), "num_splits": 29}, 27),
    ("ragged, uncut", {"blocks": (100, 3, 0, 1), "num_splits": 1}, 1),
)


@triton.jit
def part_kernel(kv_lens, bounds, spans, batch, num_splits, BATCH_P2: tl.constexpr):  # noqa: N803
    """Bounds of every part as `split_kv.part_bounds` returns them; where each request lies as the combine sees it."""
    first, last, start, stop, base, gap = part_bounds(kv_lens, batch, tl.program_id(0), num_splits, 64, BATCH_P2)
    row = bounds + tl.program_id(0) * 6
    tl.store(row, first)
    tl.store(row + 1, last)
    tl.store(row + 2, start)
    tl.store(row + 3, stop)
    tl.store(row + 4, base)
    tl.store(row + 5, gap)
    request, blocks, gap, payload, long_parts, _, uncut = plan(kv_lens, batch, num_splits, 64, BATCH_P2)
    for b in range(batch):
        first, count = parts_of(b, request, blocks, gap, payload, long_parts)
        tl.store(spans + 2 * b, first)
        tl.store(spans + 2 * b + 1, tl.where(uncut & (BATCH_P2 > 1), 1, count))


def run_parts(sizes: dict, busy: int) -> str:
    """The parts of a batch: do they cover every block once, how many have work, does the combine find them."""
    blocks, num_splits = sizes["blocks"], sizes["num_splits"]
    bounds = torch.empty(num_splits, 6, dtype=torch.int32)
    spans = torch.empty(len(blocks), 2, dtype=torch.int32)
    kv_lens = torch.tensor(blocks, dtype=torch.int32) * 64
    part_kernel[(num_splits,)](kv_lens, bounds, spans, len(blocks), num_splits, triton.next_power_of_2(len(blocks)))
    taken, workers = Counter(), defaultdict(set)
    for part, (first, last, start, stop, base, gap) in enumerate(bounds.tolist()):
        for b in range(first, last):
            for block in range(max(start - base, 0), min(stop - base, blocks[b])):
                taken[b, block] += 1
                workers[b].add(part)
            base += blocks[b] + gap if stop < 2**30 else 0
    if taken != Counter((b, block) for b, count in enumerate(blocks) for block in range(count)):
        return "a block is taken twice, or not at all"
    for b, (first, count) in enumerate(spans.tolist()):
        if blocks[b] and count > 1 and workers[b] != set(range(first, first + count)):
            return f"the combine reads {count} partials of request {b} from part {first} on, {workers[b]} left them"
        if count <= 1 and len(workers[b]) > 1:
            return f"the combine does not read the partials of request {b}"
    working = len(set().union(*workers.values()))
    return "" if working == busy else f"{working} parts have work"


def main(kind: str) -> None:
    """Every case of a kind, as JSON on standard output."""
    torch.set_num_threads(1)
    table, run = {
        "mla": (MLA_CASES, run_mla),
        "grouped": (GROUPED_CASES, run_grouped),
        "prefill": (PREFILL_CASES, run_prefill),
        "prefill at the end of memory": (TIGHT_CASES, run_tight),
        "MLA prefill": (MLA_PREFILL_CASES, run_mla_prefill),
        "MLA prefill at the end of memory": (TIGHT_CASES, run_tight_mla),
        "prefill call": (PREFILL_CASES[:1], run_prefill_call),
        "chosen": (CHOSEN_CASES, run_chosen),
        "parts": (PARTS_CASES, run_parts),
    }[kind]
    json.dump({name: run(sizes, tunables) for name, sizes, tunables in table}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
