"""The layers of a model: which of them cache and attend what, and the bytes of a request in all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlabench.errors import UsageError

LAYER_KEYS = ("num_attention_layers", "num_shared_cache_layers", "sliding_window", "num_sliding_window_layers")
INDEX_KEYS = ("index_num_heads", "index_head_dim", "index_topk")
"""The keys of a preset that say so; all are positive whole numbers where they are given."""


@dataclass(frozen=True, slots=True)
class Indexer:
    """A lightning indexer: every layer caches a float8 key and its float32 scale, and attends the `topk` best tokens.

    Source: deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py: 128 + 4 bytes a token and layer.
    """

    num_heads: int
    head_dim: int
    topk: int

    @property
    def bytes_per_token(self) -> int:
        """Cache bytes of one token in one layer; every rank holds all of them."""
        return self.head_dim + 4

    @property
    def flops_per_pair(self) -> int:
        """FLOP of scoring one token for one query in one layer."""
        return 2 * self.num_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Stack:
    """How many layers own a cache of every token, how many of the last `window` alone, and how many read another's.

    Layers that attend nothing count nowhere. Those that read another layer's cache attend every token.
    """

    full_layers: int
    window_layers: int = 0
    window: int | None = None
    shared_layers: int = 0
    indexer: Indexer | None = None

    def kept_tokens(self, kv_len: int) -> int:
        """Tokens of a request that a layer with a window keeps."""
        return kv_len if self.window is None else min(kv_len, self.window)

    def attending(self, kv_len: int) -> tuple[tuple[int, int], ...]:
        """Numbers of layers, each with the tokens of a request that they attend, the indexer's choice left aside."""
        groups = ((self.full_layers + self.shared_layers, kv_len), (self.window_layers, self.kept_tokens(kv_len)))
        return tuple((layers, tokens) for layers, tokens in groups if layers)

    def bytes_of_next_token(self, bytes_per_token: int) -> int:
        """Cache bytes of one token more, in all layers, where a request is longer than every window."""
        return self.full_layers * bytes_per_token + self._index_bytes

    def bytes_of_request(self, bytes_per_token: int, kv_len: int) -> int:
        """Cache bytes of a request of `kv_len` tokens in all layers; a token takes `bytes_per_token` in one."""
        slots = self.full_layers * kv_len + self.window_layers * self.kept_tokens(kv_len)
        return slots * bytes_per_token + self._index_bytes * kv_len

    @property
    def _index_bytes(self) -> int:
        layers = self.full_layers + self.window_layers
        return self.indexer.bytes_per_token * layers if self.indexer else 0


def stack_of(preset: Mapping[str, Any]) -> Stack:
    """The layers of a preset. Raises `UsageError` for numbers that do not fit together."""
    layers = preset.get("num_attention_layers", preset["num_layers"])
    windows, window = preset.get("num_sliding_window_layers", 0), preset.get("sliding_window")
    if windows > layers or (windows > 0) != (window is not None):
        raise UsageError(f"sliding_window and num_sliding_window_layers go together, with at most {layers} such layers")
    given = [key for key in INDEX_KEYS if key in preset]
    if given and len(given) < len(INDEX_KEYS):
        raise UsageError(f"{', '.join(INDEX_KEYS)} go together: it gives {' and '.join(given)} alone")
    indexer = Indexer(*(preset[key] for key in INDEX_KEYS)) if given else None
    return Stack(layers - windows, windows, window, preset.get("num_shared_cache_layers", 0), indexer)
