"""FlashAttention-3 for Hopper: grouped decode and prefill, and absorbed MLA with the latent part of the query as `q_v`.

Either of two packages gives it: the module `flash_attn_interface` of upstream and its builds, or vLLM, which carries
its own build. The schedule is computed in `bind`, as an engine does once a step. FlashAttention-3 allocates what it
returns; nothing is copied. It multiplies the values in the unused slots of a request's last page by weights of zero, so
that NaN there would come out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mlabench.measure.kernel import is_installed
from mlabench.measure.peers.launch import Outputs, OwnOutputs
from mlabench.measure.peers.shapes import installed_version, require, require_half, require_latent

if TYPE_CHECKING:
    from torch import Tensor

WHOSE = "FlashAttention-3"

DISABLED_WITH = {64: "FLASH_ATTENTION_DISABLE_HDIMDIFF64", 192: "FLASH_ATTENTION_DISABLE_HDIMDIFF192"}
"""For a head dim of the keys, the build flag that leaves out its kernels for values of another head dim."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is asked: q `[batch, q_len, num_q_heads, dim]` and the same of `q_v`, caches in pages of kv heads.

    With `q_starts [batch + 1]` the queries of all requests are packed, `[total_q, num_q_heads, dim]`.
    """

    q: "Tensor"
    k_cache: "Tensor"
    v_cache: "Tensor"
    q_v: "Tensor | None"
    block_table: "Tensor"
    kv_lens: "Tensor"
    softmax_scale: float
    q_starts: "Tensor | None" = None

    @property
    def q_len(self) -> int:
        """Queries of the request that has most."""
        return self.q.shape[1] if self.q_starts is None else int(self.q_starts.diff().max())


def bind_mla(
    *,
    q: "Tensor",
    kv_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> OwnOutputs:
    """Bind to the tensors of absorbed MLA decode. Raises NotImplementedError for what the build does not do."""
    require_latent(q, out, WHOSE)
    rank = out.shape[3]
    cache = kv_cache.unsqueeze(2)
    halves = q[..., rank:], cache[..., rank:], cache[..., :rank], q[..., :rank]
    return _bind(Problem(*halves, block_table, kv_lens, softmax_scale))


def bind_grouped(
    *,
    q: "Tensor",
    k_cache: "Tensor",
    v_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",  # noqa: ARG001
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> OwnOutputs:
    """Bind to the tensors of grouped decode. Raises NotImplementedError for what the build does not do."""
    require_half(q, WHOSE)
    return _bind(Problem(q, k_cache, v_cache, None, block_table, kv_lens, softmax_scale))


def bind_prefill(
    *,
    q: "Tensor",
    k_cache: "Tensor",
    v_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    q_starts: "Tensor",
    out: "Tensor",  # noqa: ARG001
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> OwnOutputs:
    """Bind to the tensors of grouped prefill. Raises NotImplementedError for what the build does not do."""
    require_half(q, WHOSE)
    return _bind(Problem(q, k_cache, v_cache, None, block_table, kv_lens, softmax_scale, q_starts))


def _bind(problem: Problem) -> OwnOutputs:
    dims = problem.k_cache.shape[3], problem.v_cache.shape[3]
    if is_installed("flash_attn_interface") and _is_built(*dims):
        return OwnOutputs({"package": installed_version(("tokenspeed-fa3", "flash-attn-3"))}, _plan_upstream(problem))
    require(
        is_installed("vllm"),
        f"this build of {WHOSE} has no kernels for head dims {dims[0]} of keys and {dims[1]} of values; vLLM's has",
    )
    return OwnOutputs({"package": installed_version(("vllm",))}, _plan_vllm(problem))


def _is_built(qk_dim: int, v_dim: int) -> bool:
    """Whether the build has these kernels; without them it computes something else and says nothing."""
    if qk_dim == v_dim or find_spec("flash_attn_config") is None:
        return True
    from flash_attn_config import CONFIG

    flags: Mapping[str, bool] = CONFIG["build_flags"]
    return not flags.get(DISABLED_WITH.get(qk_dim, ""), False)


def _plan_upstream(problem: Problem) -> Callable[[], Outputs]:
    from flash_attn_interface import flash_attn_with_kvcache, get_scheduler_metadata

    q_len, (num_q_heads, dim) = problem.q_len, problem.q.shape[-2:]
    page_size, num_kv_heads, v_dim = problem.v_cache.shape[1:]
    causal = q_len > 1
    packed = {} if problem.q_starts is None else {"cu_seqlens_q": problem.q_starts}
    metadata = get_scheduler_metadata(
        len(problem.kv_lens),
        q_len,
        problem.block_table.shape[1] * page_size,
        num_q_heads,
        num_kv_heads,
        dim,
        problem.kv_lens,
        qkv_dtype=problem.q.dtype,
        headdim_v=v_dim,
        page_size=page_size,
        causal=causal,
        **packed,
    )
    longest = {"max_seqlen_q": q_len} if packed else {}

    def run() -> Outputs:
        result, result_lse, *_ = flash_attn_with_kvcache(
            problem.q,
            problem.k_cache,
            problem.v_cache,
            qv=problem.q_v,
            cache_seqlens=problem.kv_lens,
            page_table=problem.block_table,
            softmax_scale=problem.softmax_scale,
            causal=causal,
            scheduler_metadata=metadata,
            return_softmax_lse=True,
            **packed,
            **longest,
        )
        return {"out": result, "lse": result_lse.transpose(-2, -1)}

    return run


def _plan_vllm(problem: Problem) -> Callable[[], Outputs]:
    import torch
    from vllm.vllm_flash_attn import flash_attn_varlen_func, get_scheduler_metadata

    batch, q_len, (*queries, num_q_heads, dim) = len(problem.kv_lens), problem.q_len, problem.q.shape
    page_size, num_kv_heads, v_dim = problem.v_cache.shape[1:]
    starts = problem.q_starts
    if starts is None:
        starts = torch.arange(0, (batch + 1) * q_len, q_len, dtype=torch.int32, device=problem.q.device)
    longest = int(problem.kv_lens.max())
    metadata = get_scheduler_metadata(
        batch,
        q_len,
        longest,
        num_q_heads,
        num_kv_heads,
        dim,
        problem.kv_lens,
        qkv_dtype=problem.q.dtype,
        headdim_v=v_dim,
        cu_seqlens_q=starts,
        page_size=page_size,
        causal=True,
    )
    rows = problem.q.flatten(0, -3)
    latent_rows = None if problem.q_v is None else problem.q_v.flatten(0, -3)

    def run() -> Outputs:
        result, result_lse = flash_attn_varlen_func(
            rows,
            problem.k_cache,
            problem.v_cache,
            max_seqlen_q=q_len,
            cu_seqlens_q=starts,
            max_seqlen_k=longest,
            seqused_k=problem.kv_lens,
            q_v=latent_rows,
            softmax_scale=problem.softmax_scale,
            causal=True,
            block_table=problem.block_table,
            return_softmax_lse=True,
            scheduler_metadata=metadata,
            fa_version=3,
        )
        return {"out": result.unflatten(0, queries), "lse": result_lse.transpose(0, 1).unflatten(0, queries)}

    return run
