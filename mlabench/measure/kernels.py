"""Every kernel of the suite, one row each, and what is chosen of them, of peers and of other packages' kernels."""

from collections.abc import Collection, Iterator, Sequence
from functools import cache

from mlabench.cases.case import Case
from mlabench.errors import UsageError, near_names
from mlabench.measure.entry_points import Joined, join_kernels
from mlabench.measure.kernel import ALL_PEERS, Kernel, Launch, launch_config, workspace_bytes
from mlabench.measure.peers.table import PEERS

__all__ = [
    "ALL_PEERS",
    "KERNELS",
    "PEERS",
    "Kernel",
    "Launch",
    "all_kernels",
    "broken_entry_points",
    "check_selection",
    "find_kernel",
    "find_kernels",
    "is_own",
    "joined_kernels",
    "kernels_for",
    "launch_config",
    "workspace_bytes",
]

KERNELS: tuple[Kernel, ...] = (
    Kernel("grouped_decode_triton", "triton", "grouped", "mla_kernels.grouped_decode_triton:bind", package="triton"),
    Kernel(
        "grouped_decode_torch",
        "torch",
        "grouped",
        "mla_kernels.grouped_decode_torch:bind",
        devices=("cuda", "cpu"),
        writes_lse=False,
    ),
    Kernel("mla_decode", "chosen", "mla_absorbed", "mla_kernels.mla_decode:bind", package="triton"),
    # What mla_decode chooses among, beside the Triton kernel, which takes every shape.
    Kernel(
        "mla_decode_gluon",
        "gluon",
        "mla_absorbed",
        "mla_kernels.mla_decode_gluon:bind",
        package="triton",
        by_default=False,
    ),
    Kernel(
        "mla_decode_gluon_few_rows",
        "gluon",
        "mla_absorbed",
        "mla_kernels.mla_decode_gluon_few_rows:bind",
        package="triton",
        by_default=False,
    ),
    Kernel("mla_decode_triton", "triton", "mla_absorbed", "mla_kernels.mla_decode_triton:bind", package="triton"),
    Kernel(
        "mla_decode_torch",
        "torch",
        "mla_absorbed",
        "mla_kernels.mla_decode_torch:bind",
        devices=("cuda", "cpu"),
        writes_lse=False,
    ),
    Kernel(
        "mla_recompute_decode_torch",
        "torch",
        "mla_recompute",
        "mla_kernels.mla_recompute_decode_torch:bind",
        devices=("cuda", "cpu"),
        writes_lse=False,
    ),
    Kernel("grouped_prefill", "chosen", "grouped_prefill", "mla_kernels.grouped_prefill:bind", package="triton"),
    # What grouped_prefill chooses, beside the Triton kernel, which takes every shape.
    Kernel(
        "grouped_prefill_gluon",
        "gluon",
        "grouped_prefill",
        "mla_kernels.grouped_prefill_gluon:bind",
        package="triton",
        by_default=False,
    ),
    Kernel(
        "grouped_prefill_triton",
        "triton",
        "grouped_prefill",
        "mla_kernels.grouped_prefill_triton:bind",
        package="triton",
    ),
    Kernel(
        "grouped_prefill_torch",
        "torch",
        "grouped_prefill",
        "mla_kernels.grouped_prefill_torch:bind",
        devices=("cuda", "cpu"),
        writes_lse=False,
    ),
    Kernel("mla_prefill", "chosen", "mla_absorbed_prefill", "mla_kernels.mla_prefill:bind", package="triton"),
    Kernel(
        "mla_prefill_gluon",
        "gluon",
        "mla_absorbed_prefill",
        "mla_kernels.mla_prefill_gluon:bind",
        package="triton",
        by_default=False,
    ),
    Kernel(
        "mla_prefill_triton",
        "triton",
        "mla_absorbed_prefill",
        "mla_kernels.mla_prefill_triton:bind",
        package="triton",
    ),
    Kernel(
        "mla_prefill_torch",
        "torch",
        "mla_absorbed_prefill",
        "mla_kernels.mla_prefill_torch:bind",
        devices=("cuda", "cpu"),
        writes_lse=False,
    ),
    Kernel(
        "mla_recompute_prefill",
        "chosen",
        "mla_recompute_prefill",
        "mla_kernels.mla_recompute_prefill:bind",
        package="triton",
    ),
    Kernel(
        "mla_recompute_prefill_torch",
        "torch",
        "mla_recompute_prefill",
        "mla_kernels.mla_recompute_prefill:bind_torch",
        devices=("cuda", "cpu"),
        writes_lse=False,
    ),
)
"""The suite's own kernels."""


@cache
def all_kernels() -> tuple[Kernel, ...]:
    """The suite's kernels and those of installed packages, without what `broken_entry_points` tells of."""
    return (*KERNELS, *PEERS, *(each.kernel for each in joined_kernels() if each.kernel))


def joined_kernels() -> tuple[Joined, ...]:
    """The entry points of installed packages, of which each gives a kernel or is broken."""
    return join_kernels({kernel.name for kernel in (*KERNELS, *PEERS)})


def broken_entry_points() -> dict[str, str]:
    """Why an entry point gives no kernel, by its name."""
    return {each.entry: each.reason for each in joined_kernels() if not each.kernel}


def is_own(kernel: Kernel) -> bool:
    """Whether a kernel is one of the suite's own."""
    return kernel in KERNELS


def find_kernel(name: str) -> Kernel:
    """The kernel of this name. Raises `UsageError`."""
    for kernel in all_kernels():
        if kernel.name == name:
            return kernel
    raise _unknown(name, [kernel.name for kernel in all_kernels()])


def find_kernels(name: str, contract: str) -> tuple[Kernel, ...]:
    """The kernel of this name, or else those of the contract that have it as their backend, or are peers if it is that.

    Raises `UsageError`.
    """
    if any(kernel.name == name for kernel in all_kernels()):
        return (find_kernel(name),)
    check_selection([name])
    found = tuple(kernel for kernel in all_kernels() if name in _names(kernel) and kernel.contract == contract)
    if not found:
        raise UsageError(f"{name} has no kernel for {contract} cases: `mlabench list kernels` says what each takes")
    return found


def check_selection(names: Sequence[str]) -> None:
    """Raise `UsageError` for a name that is neither a kernel's nor a backend's, nor the word for all peers."""
    known = {name for kernel in all_kernels() for name in _names(kernel)}
    for name in names:
        if name not in known:
            raise _unknown(name, known)


def kernels_for(case: Case, device: str, names: Sequence[str] = ()) -> Iterator[Kernel]:
    """The kernels that take the case: those named by kernel or backend, or as peers.

    Without names all that run on the device by default and are no peers.
    """
    for kernel in all_kernels():
        if kernel.contract != case.contract:
            continue
        is_default = device in kernel.devices and kernel.by_default and not kernel.peer
        if _names(kernel).intersection(names) or (not names and is_default):
            yield kernel


def _names(kernel: Kernel) -> set[str]:
    """What the kernel is chosen by."""
    return {kernel.name, kernel.backend} | ({ALL_PEERS} if kernel.peer else set())


def _unknown(name: str, known: Collection[str]) -> UsageError:
    broken = {each.entry: each for each in joined_kernels() if not each.kernel}
    if name in broken:
        return UsageError(broken[name].reason)
    # Its kernel and backend are not known, and may be what was named.
    told = [each.reason for each in broken.values() if each.may_hold(name)]
    if others := len(broken) - len(told):
        more = "1 broken entry point" if others == 1 else f"{others} broken entry points"
        told.append(f"{more} of other names: see `mlabench list kernels`")
    return UsageError("; ".join((f"unknown kernel {name!r}: {near_names(name, {*known, *broken})}", *told)))
