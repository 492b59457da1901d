"""What kernels are called in a figure, and how they are marked."""

import re
from dataclasses import dataclass, replace
from string import ascii_uppercase
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
        is_letter = self.marker in LETTERS
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": "none",
            "markersize": 12 if is_first else 10 if is_letter else 7,
            # An edge would eat a letter.
            "markeredgecolor": self.colour if is_letter else "white",
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

LETTERS = tuple(rf"$\mathbf{{{letter}}}$" for letter in ascii_uppercase)
"""Markers of other packages' kernels, and of a second one of a backend: none of them is a backend's."""

SPARE_COLOURS = ("#555555", "#000000", "#0072B2", "#CC79A7")

SUITES_NAME = re.compile(r"(mla|mla_recompute|grouped)_(decode|prefill)(_(?P<backend>\w+?))?(_few_rows)?(@.*)?")
"""What the suite calls its own kernels and those of its peers: by the backend, but for those that choose one."""


def is_of_suite(kernel: str, backend: str) -> bool:
    """Whether the suite ships the kernel, or the peer's binding; others come from entry points of other packages."""
    match = SUITES_NAME.fullmatch(kernel)
    return match is not None and backend in LOOKS and (match["backend"] or "chosen") == backend


def with_sides(rows: "pandas.DataFrame") -> "pandas.DataFrame":
    """The rows with a column `side`: the backend, or the kernel where a case was measured on several of a backend.

    A backend has a kernel for each kind of attention. Of a kernel at another commit the side names that too. One that
    another package ships is a side of its own.
    """
    commits = rows["kernel"].str.extract("(@.*)?$")[0].fillna("")
    of_suite = [is_of_suite(*names) for names in zip(rows["kernel"], rows["backend"], strict=True)]
    rows = rows.assign(of_suite=of_suite)
    rows = rows.assign(side=(rows["backend"] + commits).where(rows["of_suite"], rows["kernel"]))
    is_crowded = rows.groupby(["case_id", "side"])["kernel"].transform("nunique") > 1
    crowded = set(rows[is_crowded & rows["of_suite"]]["backend"])
    return rows.assign(side=rows["side"].where(~rows["backend"].isin(crowded), rows["kernel"]))


def looks_of(rows: "pandas.DataFrame") -> dict[str, Look]:
    """The look of each side, the one that the others are held against first: one of the suite's, if there is any."""
    known = rows[rows["of_suite"]]
    backends = dict(zip(known["side"], known["backend"], strict=True))
    firsts = {backends[side]: side for side in sorted(backends, reverse=True)}
    order = [firsts[backend] for backend in LOOKS if backend in firsts]
    marked = {side: LOOKS[backends[side]] for side in order}
    for place, side in enumerate(sorted(set(rows["side"]) - set(order))):
        look = LOOKS[backends[side]] if side in backends else Look(side, "", "")
        colour, marker = SPARE_COLOURS[place % len(SPARE_COLOURS)], LETTERS[place % len(LETTERS)]
        marked[side] = replace(look, colour=colour, marker=marker)
    kernels = rows.groupby("side")["kernel"].unique()
    return {
        side: replace(look, label=_label(look, side, list(kernels[side])) if side in backends else side)
        for side, look in marked.items()
    }


def _label(look: Look, side: str, kernels: list[str]) -> str:
    name, at, commit = side.partition("@")
    if name not in LOOKS or (len(kernels) == 1 and not look.peer):
        return kernels[0]
    return f"{look.label}{at}{commit}"
