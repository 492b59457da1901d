"""Reading what profilers recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlabench.doctor.launches import split_at_marks


def spans_us(kernels: Sequence[tuple[str, int, int]]) -> list[float]:
    """From (name, start, end) in nanoseconds: the spans of the groups between the first and second of two marks."""
    ordered = sorted(kernels, key=lambda kernel: kernel[1])
    groups = list(split_at_marks((name, (start, end)) for name, start, end in ordered))
    spans = [(max(end for _, end in group) - group[0][0]) / 1e3 for group in groups[::2] if group]
    if not spans:
        raise RuntimeError(f"no marks among {len(kernels)} recorded kernels")
    return spans


def scope_time_us(tree: Any, label: str) -> float:
    """The time of all kernels under the scope of this name in Proton's tree."""
    nodes = tree if isinstance(tree, list) else [tree]
    return sum(_node_time_us(node, label, inside=False) for node in nodes if "frame" in node)


def _node_time_us(node: Mapping[str, Any], label: str, *, inside: bool) -> float:
    inside = inside or node["frame"].get("name") == label
    children = node.get("children", [])
    below = sum(_node_time_us(child, label, inside=inside) for child in children)
    own_ns = node.get("metrics", {}).get("time (ns)", 0) if inside and not children else 0
    return below + own_ns / 1e3
