"""What every `bind` of this package returns, and the shape checks they share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """A kernel bound to its tensors: call it to enqueue the work on the current stream.

    `config` says what was chosen (tile sizes, warps, stages, splits), `workspace_bytes` what `bind` allocated
    beside the caller's tensors. A call writes `out` fully, and `lse` if the kernel says so, and does not wait
    for the device.
    """

    config: Mapping[str, int | str | float]
    workspace_bytes: int
    run: Callable[[], None]

    def __call__(self) -> None:
        """Enqueue the work on the current stream."""
        self.run()


def check_shape(name: str, tensor, *shape: int | None) -> None:
    """ValueError unless `tensor` is contiguous and has this shape (None accepts any size)."""
    actual = tuple(tensor.shape)
    fits = len(actual) == len(shape) and all(want in (None, have) for want, have in zip(shape, actual, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {list(actual)}, expected [{wanted}]")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous")


def check_dtype(name: str, tensor, dtype) -> None:
    """ValueError unless `tensor` has this dtype."""
    if tensor.dtype != dtype:
        raise ValueError(f"{name} is {tensor.dtype}, expected {dtype}")


def check_grouped(q, k_cache, v_cache, block_table, kv_lens, out, lse, most_dim: int, q_starts=None) -> None:
    """ValueError for tensors of grouped attention that contradict each other, with q_starts those of prefill, whose
    queries are packed; NotImplementedError for dtypes other than the three of torch, and head dims that are not 16 to
    most_dim."""
    import torch

    check_shape("q", q, *(None,) * (4 if q_starts is None else 3))
    *queries, num_q_heads, qk_dim = q.shape
    check_shape("k_cache", k_cache, None, None, None, qk_dim)
    num_kv_heads, v_dim = k_cache.shape[2], out.shape[-1]
    check_shape("v_cache", v_cache, *k_cache.shape[:3], v_dim)
    _check_call(queries, num_q_heads, v_dim, block_table, kv_lens, out, lse, q_starts)
    for name, tensor in (("k_cache", k_cache), ("v_cache", v_cache), ("out", out)):
        check_dtype(name, tensor, q.dtype)
    if num_q_heads % num_kv_heads:
        raise ValueError(f"num_q_heads {num_q_heads} is not a multiple of num_kv_heads {num_kv_heads}")
    if q.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise NotImplementedError(f"q is {q.dtype}; float16, bfloat16 and float32 are supported")
    for name, size in (("qk_dim", qk_dim), ("v_dim", v_dim)):
        if not 16 <= size <= most_dim:
            raise NotImplementedError(f"{name} is {size}; 16 to {most_dim} are supported")


def check_scale(softmax_scale: float) -> None:
    """NotImplementedError unless the scale is above 0, as kernels need it that scale the greatest score afterwards."""
    if not softmax_scale > 0:
        raise NotImplementedError(f"softmax_scale is {softmax_scale}; numbers above 0 are supported")


def check_mla(q, kv_cache, block_table, kv_lens, out, lse, q_starts=None) -> None:
    """ValueError for tensors of absorbed MLA that contradict each other, with q_starts those of prefill, whose queries
    are packed."""
    check_shape("q", q, *(None,) * (4 if q_starts is None else 3))
    *queries, num_q_heads, kv_dim = q.shape
    check_shape("kv_cache", kv_cache, None, None, kv_dim)
    _check_call(queries, num_q_heads, None, block_table, kv_lens, out, lse, q_starts)
    for name, tensor in (("kv_cache", kv_cache), ("out", out)):
        check_dtype(name, tensor, q.dtype)


def _check_call(queries, num_q_heads, v_dim, block_table, kv_lens, out, lse, q_starts) -> None:
    """ValueError unless tables, lengths and results fit queries of these dimensions, packed where q_starts is given."""
    import torch

    tables = {"block_table": block_table, "kv_lens": kv_lens}
    check_shape("kv_lens", kv_lens, queries[0] if q_starts is None else None)
    check_shape("block_table", block_table, len(kv_lens), None)
    if q_starts is not None:
        check_shape("q_starts", q_starts, len(kv_lens) + 1)
        tables["q_starts"] = q_starts
    check_shape("out", out, *queries, num_q_heads, v_dim)
    check_shape("lse", lse, *queries, num_q_heads)
    check_dtype("lse", lse, torch.float32)
    for name, tensor in tables.items():
        check_dtype(name, tensor, torch.int32)
