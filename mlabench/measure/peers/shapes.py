"""What peers take and how they want it: refusals in one line, pages as lists, versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

KV_LORA_RANK, QK_ROPE_HEAD_DIM = 512, 64
"""The one latent shape that the peers' MLA kernels are built for."""


def require(holds: bool, reason: str) -> None:
    """Raise NotImplementedError with the reason unless it holds."""
    if not holds:
        raise NotImplementedError(reason)


def require_half(q: "Tensor", whose: str) -> None:
    """Refuse all but bfloat16 and float16."""
    name = str(q.dtype).removeprefix("torch.")
    require(name in ("bfloat16", "float16"), f"{whose} takes bfloat16 and float16, not {name}")


def require_latent(q: "Tensor", out: "Tensor", whose: str) -> None:
    """Refuse latents of another shape than DeepSeek's, and dtypes that are not half precision."""
    require_half(q, whose)
    rank = out.shape[3]
    rope = q.shape[3] - rank
    require(
        (rank, rope) == (KV_LORA_RANK, QK_ROPE_HEAD_DIM),
        f"{whose} takes kv_lora_rank {KV_LORA_RANK} with qk_rope_head_dim {QK_ROPE_HEAD_DIM}, not {rank} with {rope}",
    )


def require_one_query(q: "Tensor", whose: str) -> None:
    """Refuse more than one new token a request."""
    require(q.shape[1] == 1, f"{whose} takes q_len 1, not {q.shape[1]}")


def require_tokens(kv_lens: "Tensor", whose: str) -> None:
    """Refuse a batch with an empty request."""
    require(int(kv_lens.min()) > 0, f"{whose} does not take a request without cached tokens")


def require_decode(q: "Tensor", kv_lens: "Tensor", whose: str) -> None:
    """Refuse all but one new token a request, in half precision, on a cache that holds tokens of each."""
    require_half(q, whose)
    require_one_query(q, whose)
    require_tokens(kv_lens, whose)


@dataclass(frozen=True)
class PageLists:
    """The pages of a batch as int32 lists on the host: those of request `i` are `indices[indptr[i]:indptr[i + 1]]`."""

    indptr: "Tensor"
    indices: "Tensor"
    last_page_len: "Tensor"
    kv_lens: "Tensor"


def list_pages(block_table: "Tensor", kv_lens: "Tensor", page_size: int) -> PageLists:
    """Read a block table and lengths on the host; later changes to them are not seen."""
    import torch

    lengths, table = kv_lens.cpu(), block_table.cpu()
    counts = (lengths + page_size - 1) // page_size
    indptr = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    indptr[1:] = counts.cumsum(0)
    indices = table[torch.arange(table.shape[1]) < counts[:, None]]
    return PageLists(indptr, indices, lengths - (counts - 1) * page_size, lengths)


def installed_version(distributions: Sequence[str]) -> str:
    """`NAME VERSION` of the first of these distributions that is installed."""
    for name in distributions:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "unknown"


def import_first(modules: Sequence[str]) -> ModuleType:
    """The first of these modules that the installed package has. Raises NotImplementedError where it has none."""
    for name in modules:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or " "):
                raise
    raise NotImplementedError(f"the installed {modules[0].partition('.')[0]} has no module {' or '.join(modules)}")
