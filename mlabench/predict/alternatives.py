"""The other variants at the same size: what a sweep of the same model with `-a variant=...` would measure."""

from collections.abc import Mapping
from functools import lru_cache

from mlabench.cases.case import VARIANTS, Case
from mlabench.cases.grid import DEFAULT_SHAPE
from mlabench.cases.variant import Variant
from mlabench.errors import UsageError

USUAL_FORM: Mapping[str, str] = {"decode": "absorbed", "prefill": "expanded"}
"""The form in which MLA is held against others, by phase."""


def alternatives(variant: Variant, phase: str) -> Mapping[str, Variant]:
    """Each variant by name, with this one's query heads and its sizes as far as it has them.

    Sizes that it lacks are a sweep's defaults: 8 KV heads, heads of 128, DeepSeek's latent. What cannot be, such as 8
    KV heads for 20 query heads, is left out.
    """
    return _alternatives((variant, phase))


@lru_cache(maxsize=1 << 14)
def _alternatives(key: tuple[Variant, str]) -> Mapping[str, Variant]:
    (variant, phase), found = key, {}
    for name in VARIANTS:
        sizes = {**DEFAULT_SHAPE, **variant.sizes(), "variant": name, "form": USUAL_FORM[phase]}
        if variant.name in ("mha", "mqa"):
            sizes["num_kv_heads"] = DEFAULT_SHAPE["num_kv_heads"]
        try:
            other = Case.from_fields(sizes).variant
        except UsageError:
            continue
        if other.name == name:
            found[name] = other
    return found
