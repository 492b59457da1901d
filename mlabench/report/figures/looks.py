"""What kernels are called in a figure, and how they are marked."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Look:
    """What a kernel is called, and its marker. Of the suite's own, which are no `peer`, one kernel goes by its name."""

    label: str
    colour: str
    marker: str
    peer: bool = True

    def marks(self, *, is_first: bool) -> dict[str, Any]:
        """How matplotlib draws it: the kernel that the others are held against is large."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": "none",
            "markersize": 12 if is_first else 7,
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
            "zorder": 3 if is_first else 4,
            "label": self.label,
        }


LOOKS = {
    "chosen": Look("this suite", "#D55E00", "D", peer=False),
    "gluon": Look("Gluon", "#E69F00", "h", peer=False),
    "triton": Look("Triton", "#56B4E9", "p", peer=False),
    "torch": Look("torch", "#555555", "*", peer=False),
    "flash_mla": Look("FlashMLA", "#0072B2", "o"),
    "flash_attn_3": Look("FlashAttention-3", "#CC79A7", "s"),
    "flashinfer_fa3": Look("FlashInfer fa3", "#009E73", "^"),
    "flashinfer_fa2": Look("FlashInfer fa2", "#56B4E9", "v"),
    "flashinfer": Look("FlashInfer", "#009E73", "<"),
    "vllm_triton": Look("vLLM Triton", "#000000", "X"),
    "sglang_triton": Look("SGLang Triton", "#E69F00", "P"),
    "torch_flash": Look("SDPA flash", "#0072B2", ">"),
    "torch_cudnn": Look("SDPA cuDNN", "#000000", "d"),
}
"""By backend; the first of them that was measured is drawn large, and the others are held against it."""

SPARE = (("#555555", "8"), ("#000000", "H"), ("#0072B2", "X"), ("#CC79A7", "P"))
"""For kernels of other backends, and for a second one of a backend."""


def with_sides(rows: "pandas.DataFrame") -> "pandas.DataFrame":
    """The rows with a column `side`: the backend, or the kernel where a case was measured on several of a backend.

    A backend has a kernel for each kind of attention. Of a kernel at another commit the side names that too.
    """
    commits = rows["kernel"].str.extract("(@.*)?$")[0].fillna("")
    rows = rows.assign(side=rows["backend"] + commits)
    is_crowded = rows.groupby(["case_id", "side"])["kernel"].transform("nunique") > 1
    crowded = set(rows[is_crowded]["backend"])
    return rows.assign(side=rows["side"].where(~rows["backend"].isin(crowded), rows["kernel"]))


def looks_of(rows: "pandas.DataFrame") -> dict[str, Look]:
    """The look of each side, the one that the others are held against first."""
    backends = dict(zip(rows["side"], rows["backend"], strict=True))
    firsts = {backends[side]: side for side in sorted(backends, reverse=True)}
    order = [firsts[backend] for backend in LOOKS if backend in firsts]
    spare = sorted(set(backends) - set(order))
    marked = {side: LOOKS[backends[side]] for side in order}
    for place, side in enumerate(spare):
        colour, marker = SPARE[place % len(SPARE)]
        marked[side] = replace(LOOKS.get(backends[side], Look(side, "", "")), colour=colour, marker=marker)
    kernels = rows.groupby("side")["kernel"].unique()
    return {
        side: replace(look, label=_label(look, side, backends[side], list(kernels[side])))
        for side, look in marked.items()
    }


def _label(look: Look, side: str, backend: str, kernels: list[str]) -> str:
    name, at, commit = side.partition("@")
    if name != backend or (len(kernels) == 1 and not look.peer):
        return kernels[0]
    return f"{look.label}{at}{commit}"
