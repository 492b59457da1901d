"""The tensors of a case, declared once: allocation, cache bytes and memory traffic all come from these specs."""

import math
from dataclasses import dataclass
from typing import Literal

Role = Literal["query", "kv_cache", "weight", "table", "intermediate", "output"]

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "int32": 4}

CASE_DTYPES = ("bfloat16", "float16", "float32")

BLOCK_TABLE = "block_table"

HIDDEN, OUTPUT, ROPE_TABLE = "hidden", "output", "rope_table"
"""A layer's input, its output, and the cosines and sines of all positions."""

CORE_PART = "core"
"""The core's name among the parts of a layer."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a case. `name` is also the kernels' parameter name.

    A `kv_cache` tensor has the shape `(num_pages, page_size, *slot)`, where a slot holds one token. An `intermediate`
    one is written and read within a call.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Role

    @property
    def nbytes(self) -> int:
        """Bytes the tensor occupies."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def slot_bytes(self) -> int:
        """Bytes that one cached token occupies in a `kv_cache` tensor."""
        return math.prod(self.shape[2:]) * DTYPE_BYTES[self.dtype]
