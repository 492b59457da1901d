"""What the layers of MLA and of grouped attention share: seeded weights, where new tokens lie, and two parts.

Tokens are packed: those of all requests one after the other, as in prefill; a decode step's `[batch, q_len, ...]` is
the same with its first two dims flattened. Every `bind` returns a `Launch` that writes into the caller's tensors, may
be captured in a CUDA graph, and reads positions and slots in the call. Intermediate results that torch's allocator
provides in the call are not in `workspace_bytes`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mla_kernels.launch import Launch, check_dtype, check_shape


def make_weights(
    shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, seed: int = 0, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Seeded weights by name: matrices normal with a standard deviation of `in ** -0.5`, norms near 1.

    Drawn in float32 and rounded, so that a seed gives the same weights in every dtype.
    """
    generator = torch.Generator(device).manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        normal = torch.randn(shape, generator=generator, device=device)
        weights[name] = (normal * shape[-1] ** -0.5 if len(shape) > 1 else 1 + 0.1 * normal).to(dtype)
    return weights


def place_tokens(starts: Tensor, kv_lens: Tensor, block_table: Tensor, page_size: int) -> tuple[Tensor, Tensor]:
    """Positions and flat cache slots, int64 `[tokens]` each, of the last tokens of every request.

    Request `r` has `starts[r + 1] - starts[r]` of them, which end at its `kv_lens[r]`: its new tokens, or all of its
    cached ones where `starts` are those of the whole lengths. A slot indexes the cache with its pages flattened.
    """
    counts = starts.diff()
    request = torch.repeat_interleave(torch.arange(len(counts), device=starts.device), counts)
    index = torch.arange(len(request), device=starts.device) - starts[request]
    positions = (kv_lens - counts)[request] + index
    pages = block_table[request, positions // page_size].long()
    return positions, pages * page_size + positions % page_size


def bind_cache_write(*, rows: Sequence[Tensor], slots: Tensor, caches: Sequence[Tensor]) -> Launch:
    """Write `rows`, each `[tokens, ...]`, to `slots int64 [tokens]` of their `caches [num_pages, page_size, ...]`."""
    for number, (row, cache) in enumerate(zip(rows, caches, strict=True)):
        check_view(f"rows[{number}]", row, cache, len(slots), *cache.shape[2:])
    flat = [cache.view(-1, *cache.shape[2:]) for cache in caches]

    def run() -> None:
        for row, cache in zip(rows, flat, strict=True):
            cache.index_copy_(0, slots, row)

    return Launch({}, 0, run)


def bind_output(*, heads_out: Tensor, o_proj: Tensor, output: Tensor) -> Launch:
    """`output [tokens, hidden_size]` from `heads_out [tokens, num_q_heads, v_head_dim]` and `o_proj [hidden_size,
    num_q_heads * v_head_dim]`.
    """
    tokens, heads, v_head_dim = heads_out.shape
    hidden_size = output.shape[1]
    check_tensor("heads_out", heads_out, heads_out, tokens, heads, v_head_dim)
    check_view("o_proj", o_proj, heads_out, hidden_size, heads * v_head_dim)
    check_view("output", output, heads_out, tokens, hidden_size)
    return launch_product(heads_out.flatten(1), o_proj.T, output)


def launch_product(rows: Tensor, matrix: Tensor, out: Tensor) -> Launch:
    """`rows @ matrix` into `out`, of matrices or of batches of them; views are read and written where they lie."""
    product = torch.mm if rows.ndim == 2 else torch.bmm

    def run() -> None:
        product(rows, matrix, out=out)

    return Launch({}, 0, run)


def check_tensor(name: str, tensor: Tensor, like: Tensor, *shape: int) -> None:
    """ValueError unless `tensor` is contiguous, has this shape and the dtype of `like`."""
    check_shape(name, tensor, *shape)
    check_dtype(name, tensor, like.dtype)


def check_view(name: str, tensor: Tensor, like: Tensor, *shape: int) -> None:
    """ValueError unless `tensor`, contiguous or not, has this shape and the dtype of `like`."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {list(shape)}")
    check_dtype(name, tensor, like.dtype)
