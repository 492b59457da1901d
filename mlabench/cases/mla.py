"""Multi-head Latent Attention in its forms.

Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1 and appendix C; dimensions carry DeepSeek's names.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from mlabench.cases.tensors import TensorSpec

if TYPE_CHECKING:
    from mlabench.cases.layer import MlaDims

Form = Literal["absorbed", "recompute", "expanded", "premultiplied"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Mla:
    """MLA with `num_q_heads` heads over one latent of `kv_lora_rank` and one shared RoPE key of `qk_rope_head_dim`.

    Forms: `absorbed` caches the latent and attends in latent space; `recompute` caches the latent and expands K and V
    from it at each step; `expanded` caches the expanded K and V, as the first public modelling code did.
    `premultiplied` is a layer whose projections were multiplied beforehand: its core is the absorbed one.
    """

    num_q_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    form: Form = "absorbed"

    name: ClassVar[str] = "mla"

    @property
    def contract(self) -> str:
        """Which tensors the form's kernels take in decode; the expanded form is grouped, a KV head a query head."""
        return "grouped" if self.form == "expanded" else f"mla_{self.core.form}"

    @property
    def core(self) -> "Mla":
        """The variant whose attention alone this is: the absorbed form's for the premultiplied one."""
        return replace(self, form="absorbed") if self.form == "premultiplied" else self

    @property
    def label(self) -> str:
        """Short text for tables and legends: `MLA absorbed (128 heads)`."""
        return f"MLA {self.form} ({self.num_q_heads} heads)"

    def sizes(self) -> dict[str, int | str]:
        """The variant's own values by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def softmax_scale(self) -> float:
        """1 / sqrt(qk_nope_head_dim + qk_rope_head_dim), in every form (DeepSeek-V2, equation 18)."""
        return 1 / math.sqrt(self.qk_nope_head_dim + self.qk_rope_head_dim)

    def layer_dims(self, hidden_size: int, q_lora_rank: int | None) -> "MlaDims":
        """The dimensions of a layer around it; without `q_lora_rank` its query comes from the hidden state at once."""
        from mlabench.cases.layer import MlaDims

        sizes = (self.kv_lora_rank, self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim)
        return MlaDims(hidden_size, self.num_q_heads, *sizes, q_lora_rank)

    def tensors(self, queries: tuple[int, ...], num_pages: int, page_size: int, dtype: str) -> tuple[TensorSpec, ...]:
        """Query, cache, weight and output tensors of one call; `queries` are the dimensions that count them.

        The absorbed form's query is already absorbed and its output stays in latent space.
        """
        heads, qk_head_dim = self.num_q_heads, self.qk_nope_head_dim + self.qk_rope_head_dim
        latent_dim = self.kv_lora_rank + self.qk_rope_head_dim
        rows, pages = (*queries, heads), (num_pages, page_size)
        latent = TensorSpec("kv_cache", (*pages, latent_dim), dtype, "kv_cache")
        if self.core.form == "absorbed":
            return (
                TensorSpec("q", (*rows, latent_dim), dtype, "query"),
                latent,
                TensorSpec("out", (*rows, self.kv_lora_rank), dtype, "output"),
            )
        query = TensorSpec("q", (*rows, qk_head_dim), dtype, "query")
        out = TensorSpec("out", (*rows, self.v_head_dim), dtype, "output")
        if self.form == "recompute":
            expansion = (heads, self.qk_nope_head_dim + self.v_head_dim, self.kv_lora_rank)
            return (query, latent, TensorSpec("kv_b_proj", expansion, dtype, "weight"), out)
        return (
            query,
            TensorSpec("k_cache", (*pages, heads, qk_head_dim), dtype, "kv_cache"),
            TensorSpec("v_cache", (*pages, heads, self.v_head_dim), dtype, "kv_cache"),
            out,
        )

    def flops(self, attended_pairs: int, cached_tokens: int) -> int:
        """FLOP of one call; two per multiply-add, softmax not counted.

        `recompute` adds the expansion of every cached token; the absorbed form's side projections belong to the layer,
        not to the core.
        """
        qk_head_dim = self.qk_nope_head_dim + self.qk_rope_head_dim
        if self.core.form == "absorbed":
            return 2 * attended_pairs * self.num_q_heads * (2 * self.kv_lora_rank + self.qk_rope_head_dim)
        attention = 2 * attended_pairs * self.num_q_heads * (qk_head_dim + self.v_head_dim)
        if self.form == "expanded":
            return attention
        expanded_dim = self.num_q_heads * (self.qk_nope_head_dim + self.v_head_dim)
        return attention + 2 * cached_tokens * self.kv_lora_rank * expanded_dim
