"""Every kernel of the suite: one row each, loaded when first bound; other packages add theirs by an entry point."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mlabench.cases.case import Case
from mlabench.errors import UsageError, near_names
from mlabench.measure.check import REFERENCES

ENTRY_POINT_GROUP = "mlabench.kernels"

Launch = Callable[[], None]
Bind = Callable[..., Launch]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to compute the cases of a contract: the set of tensors that a variant's `contract` names.

    `target` is `module:function`. The function takes the case's tensors by their spec names and `softmax_scale`, plans,
    and returns a callable without arguments that launches the work. It raises NotImplementedError, with a clear line,
    for a shape it does not do. Where `writes_lse` is false the log-sum-exp is not checked.
    """

    name: str
    backend: str
    contract: str
    target: str
    devices: tuple[str, ...] = ("cuda",)
    package: str = ""
    install: str = ""
    writes_lse: bool = True

    def __post_init__(self) -> None:
        if self.contract not in REFERENCES:
            raise UsageError(
                f"kernel {self.name}: unknown contract {self.contract!r}: {near_names(self.contract, REFERENCES)}"
            )

    def missing(self) -> str:
        """Why the kernel cannot be loaded here, with the way to mend it; empty where it can."""
        if not self.package or find_spec(self.package) is not None:
            return ""
        return f"the package {self.package} is not installed: {self.install or f'pip install {self.package}'}"

    def load(self) -> Bind:
        """Import the function that binds this kernel."""
        module, _, name = self.target.partition(":")
        bind: Bind = getattr(import_module(module), name)
        return bind


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
)
"""The suite's own kernels."""


@cache
def all_kernels() -> tuple[Kernel, ...]:
    """The suite's kernels and those of installed packages. Raises `UsageError` for an entry point that is no kernel."""
    from importlib.metadata import entry_points

    kernels = {kernel.name: kernel for kernel in KERNELS}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            kernel = entry.load()
        except Exception as error:
            raise UsageError(
                f"entry point {entry.name} ({entry.value}) does not load: {error}; mend or uninstall it"
            ) from None
        if not isinstance(kernel, Kernel):
            raise UsageError(f"entry point {entry.name} ({entry.value}) is no mlabench.measure.kernels.Kernel")
        if kernel.name in kernels:
            raise UsageError(
                f"entry point {entry.name}: a kernel named {kernel.name} is already there; give it another name"
            )
        kernels[kernel.name] = kernel
    return tuple(kernels.values())


def find_kernel(name: str) -> Kernel:
    """The kernel of this name. Raises `UsageError`."""
    for kernel in all_kernels():
        if kernel.name == name:
            return kernel
    raise UsageError(f"unknown kernel {name!r}: {near_names(name, (kernel.name for kernel in all_kernels()))}")


def check_selection(names: Sequence[str]) -> None:
    """Raise `UsageError` for a name that is neither a kernel's nor a backend's."""
    known = {kernel.name for kernel in all_kernels()} | {kernel.backend for kernel in all_kernels()}
    for name in names:
        if name not in known:
            raise UsageError(f"unknown kernel {name!r}: {near_names(name, known)}")


def kernels_for(case: Case, device: str, names: Sequence[str] = ()) -> Iterator[Kernel]:
    """The kernels that take the case: those named by kernel or backend, or without names all that run on the device."""
    for kernel in all_kernels():
        if kernel.contract != case.variant.contract:
            continue
        if kernel.name in names or kernel.backend in names or (not names and device in kernel.devices):
            yield kernel


def launch_config(launch: Launch) -> dict[str, Any]:
    """What a bound kernel says it chose; empty for one that says nothing. Raises ValueError unless JSON can hold it."""
    config = dict(getattr(launch, "config", {}))
    json.dumps(config, allow_nan=False)
    return config


def workspace_bytes(launch: Launch) -> int | None:
    """What a bound kernel says it allocated; None for one that says nothing."""
    stated = getattr(launch, "workspace_bytes", None)
    return None if stated is None else int(stated)
