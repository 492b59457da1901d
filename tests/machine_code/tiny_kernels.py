"""Small kernels that bind in ways of their own: autotuned, in Gluon, with views, and one that looks at its tensors."""

import torch
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from mlabench.measure.kernels import Kernel

NAMES = ("autotuned", "in_gluon", "viewing", "reading", "misspelt")
KERNELS = {name: Kernel(name, "tiny", "mla_absorbed", f"{__name__}:bind_{name}", writes_lse=False) for name in NAMES}


@triton.jit
def copy_kernel(x, y, BLOCK: tl.constexpr):  # noqa: N803
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at))


tuned_kernel = triton.autotune([triton.Config({"BLOCK": block}, num_warps=4) for block in (128, 256)], key=[])(
    copy_kernel
)


@triton.jit
def misspelt_kernel(x):
    tl.store(x, no_such_name)  # noqa: F821


@gluon.jit
def gluon_kernel(x, y, BLOCK: gl.constexpr):  # noqa: N803
    layout: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    at = gl.arange(0, BLOCK, layout)
    gl.store(y + at, gl.load(x + at))


def bind_autotuned(*, q, out, **_others):
    return lambda: tuned_kernel[(1,)](q, out)


def bind_in_gluon(*, q, out, **_others):
    return lambda: gluon_kernel[(1,)](q, out, BLOCK=128, num_warps=4)


def bind_viewing(*, q, out, kv_lens, **_others):
    """Slices, copies and new tensors lie where its tensors do, and what it asks of the device is the assumed one's."""
    assert q.is_cuda and q.device.type == "cuda"
    room = torch.zeros(4, device=q.device, dtype=q.dtype)
    parts = [q[1:, ..., :128].contiguous(), torch.cat([room, room.new_ones(4)]), torch.empty_like(out).to("cuda")]
    assert all(part.is_cuda for part in parts) and not torch.zeros(1).is_cuda
    assert q[1:].data_ptr() - q.data_ptr() == q.stride(0) * q.element_size()
    assert kv_lens.shape == (128,)
    major, minor = torch.cuda.get_device_capability(q.device)
    warps = torch.cuda.get_device_properties(q.device).multi_processor_count // 33
    return lambda: copy_kernel[(1,)](parts[0], out, BLOCK=major * 10 + minor + 38, num_warps=warps)


def bind_reading(*, kv_lens, **_others):
    return lambda: kv_lens.max().item()


def bind_misspelt(*, out, **_others):
    return lambda: misspelt_kernel[(1,)](out)
