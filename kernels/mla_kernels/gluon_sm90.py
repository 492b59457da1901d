"""What the Gluon kernels for sm_90 share: which tensors they take, and how TMA is told of them."""

import torch
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

LAZY = gl.constexpr(8.0)
"""By how much, in powers of two, scores exceed the running maximum before it moves. FlashAttention-4 does likewise; the
weights, up to 2^8, lose nothing in 16 bits."""

barrier = getattr(gl, "thread_barrier", None) or gl.barrier
"""The barrier of a warp group, by the name that this version of Triton has for it."""


def unsupported_tensors(q: torch.Tensor, kv_lora_rank: int) -> str:
    """Why no kernel of these takes absorbed queries `[batch, q_len, num_q_heads, kv_dim]`; empty where they can."""
    rope_dim = q.shape[-1] - kv_lora_rank
    if q.device.type != "cuda" or torch.cuda.get_device_capability(q.device) != (9, 0):
        return "needs a GPU of compute capability 9.0"
    if q.dtype not in (torch.float16, torch.bfloat16):
        return f"q is {q.dtype}; float16 and bfloat16 are supported"
    if (kv_lora_rank, rope_dim) != (512, 64):
        return f"kv_lora_rank {kv_lora_rank} with qk_rope_head_dim {rope_dim}; 512 with 64 is supported"
    return ""


def tiles(tensor: torch.Tensor, rows: int, cols: int) -> TensorDescriptor:
    """A descriptor by which TMA loads so many rows and columns of a matrix at once."""
    dtype = gl.bfloat16 if tensor.dtype == torch.bfloat16 else gl.float16
    layout = gl.NVMMASharedLayout.get_default_for([rows, cols], dtype)
    return TensorDescriptor.from_tensor(tensor, [rows, cols], layout)
