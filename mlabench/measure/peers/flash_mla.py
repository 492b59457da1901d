"""FlashMLA's dense decode, the CUDA kernel that DeepSeek published for Hopper.

Two packages give the module `flash_mla`: upstream's own, up to the release that dropped dense decode, and
`sgl-flash-mla`, which keeps it behind `use_legacy`. The schedule is computed in `bind`, as an engine does once a step.
FlashMLA allocates what it returns; nothing is copied.
"""

from inspect import signature
from typing import TYPE_CHECKING

from mlabench.measure.peers.launch import Outputs, OwnOutputs
from mlabench.measure.peers.shapes import KV_LORA_RANK, installed_version, require, require_latent, require_tokens

if TYPE_CHECKING:
    from torch import Tensor

PAGE_SIZE = 64


def bind(
    *,
    q: "Tensor",
    kv_cache: "Tensor",
    block_table: "Tensor",
    kv_lens: "Tensor",
    out: "Tensor",
    lse: "Tensor",  # noqa: ARG001
    softmax_scale: float,
) -> OwnOutputs:
    """Bind to the tensors of absorbed MLA decode. Raises NotImplementedError for shapes that FlashMLA does not do."""
    from flash_mla import flash_mla_with_kvcache, get_mla_metadata

    require_latent(q, out, "FlashMLA")
    require(kv_cache.shape[1] == PAGE_SIZE, f"FlashMLA takes page_size {PAGE_SIZE}, not {kv_cache.shape[1]}")
    require_tokens(kv_lens, "FlashMLA")
    q_len, num_q_heads = q.shape[1:3]
    cache = kv_cache.unsqueeze(2)
    # Newer versions ignore these arguments and fill the metadata in their first call.
    metadata, splits = get_mla_metadata(kv_lens, q_len * num_q_heads, 1)
    options = {"softmax_scale": softmax_scale, "causal": q_len > 1}
    if "use_legacy" in signature(flash_mla_with_kvcache).parameters:
        options["use_legacy"] = True

    def run() -> Outputs:
        result, result_lse = flash_mla_with_kvcache(
            q, cache, block_table, kv_lens, KV_LORA_RANK, metadata, splits, **options
        )
        return {"out": result, "lse": result_lse.transpose(1, 2)}

    run()
    parts = getattr(metadata, "num_splits", splits)
    config: dict[str, int | str | float] = {
        "package": installed_version(("sgl-flash-mla", "flash-mla")),
        "parts": int(parts[-1]),
    }
    return OwnOutputs(config, run)
