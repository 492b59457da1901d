"""What the Gluon kernels for sm_90 share: which tensors they take, how TMA is told of them, and blanking."""

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

LAZY = gl.constexpr(8.0)
"""By how much, in powers of two, scores exceed the running maximum before it moves. FlashAttention-4 does likewise; the
weights, up to 2^8, lose nothing in 16 bits."""

barrier = getattr(gl, "thread_barrier", None) or gl.barrier
"""The barrier of a warp group, by the name that this version of Triton has for it."""


def unsupported_queries(q: torch.Tensor) -> str:
    """Why no kernel of these takes queries of such a device or dtype; empty where they can."""
    if q.device.type != "cuda" or torch.cuda.get_device_capability(q.device) != (9, 0):
        return "needs a GPU of compute capability 9.0"
    if q.dtype not in (torch.float16, torch.bfloat16):
        return f"q is {q.dtype}; float16 and bfloat16 are supported"
    return ""


def unsupported_pages(page_size: int, block: int) -> str:
    """Why no kernel that copies blocks of so many tokens takes such pages; empty where they can."""
    small = [size for size in (16, 32, 64) if size < block]
    if page_size % block and page_size not in small:
        return f"page_size {page_size}; {', '.join(map(str, small))} and multiples of {block} are supported"
    return ""


def tiles(tensor: torch.Tensor, rows: int, cols: int) -> TensorDescriptor:
    """A descriptor by which TMA loads so many rows and columns of a matrix at once."""
    dtype = gl.bfloat16 if tensor.dtype == torch.bfloat16 else gl.float16
    layout = gl.NVMMASharedLayout.get_default_for([rows, cols], dtype)
    return TensorDescriptor.from_tensor(tensor, [rows, cols], layout)


@gluon.jit
def blank_unused(values, unused_from):
    """Set the rows of a block in shared memory from `unused_from` on to zero: their weight is 0, and 0 x NaN would not
    be. Four warps do it."""
    ROWS: gl.constexpr = values.shape[0]
    COLS: gl.constexpr = values.shape[1]
    L: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    row = gl.arange(0, ROWS, gl.SliceLayout(1, L))
    for c in gl.static_range(COLS // 64):
        piece = values.slice(c * 64, 64, 1)
        piece.store(gl.where((row < unused_from)[:, None], piece.load(L), 0.0))
    fence_async_shared()
    barrier()
