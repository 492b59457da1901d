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
    """One way to compute the cases of a contract: the set of tensors that a case's `contract` names.

    `target` is `module:function`. The function takes the case's tensors by their spec names and `softmax_scale`, plans,
    and returns a callable without arguments that launches the work. It raises NotImplementedError, with a clear line,
    for a shape it does not do. Where `writes_lse` is false the log-sum-exp is not checked. `package` is what must be
    installed, or several joined by ` or ` of which one is enough. A `peer`, and one that is not `by_default`, runs only
    where it is asked for. One that `reads_unused_slots`, and lets what is there into its output unless it is finite, is
    given finite values behind the last token of a request; for all others those slots hold NaN.

    What a call writes instead of `out` and `lse`, because its package allocates it, the launch's `outputs` names: see
    `peers/launch.py`.
    """

    name: str
    backend: str
    contract: str
    target: str
    devices: tuple[str, ...] = ("cuda",)
    package: str = ""
    install: str = ""
    writes_lse: bool = True
    peer: bool = False
    reads_unused_slots: bool = False
    by_default: bool = True

    def __post_init__(self) -> None:
        if self.contract not in REFERENCES:
            raise UsageError(
                f"kernel {self.name}: unknown contract {self.contract!r}: {near_names(self.contract, REFERENCES)}"
            )

    def missing(self) -> str:
        """Why the kernel cannot be loaded here, with the way to mend it; empty where it can."""
        if not self.package or any(map(is_installed, self.package.split(" or "))):
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

PEERS: tuple[Kernel, ...] = (
    Kernel(
        "mla_decode_flash_mla",
        "flash_mla",
        "mla_absorbed",
        "mlabench.measure.peers.flash_mla:bind",
        package="flash_mla",
        install="pip install --no-deps sgl-flash-mla",
        peer=True,
    ),
    Kernel(
        "mla_decode_flashinfer_fa2",
        "flashinfer_fa2",
        "mla_absorbed",
        "mlabench.measure.peers.flashinfer_mla:bind_fa2",
        package="flashinfer",
        install="pip install flashinfer-python",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "mla_decode_flashinfer_fa3",
        "flashinfer_fa3",
        "mla_absorbed",
        "mlabench.measure.peers.flashinfer_mla:bind_fa3",
        package="flashinfer",
        install="pip install flashinfer-python",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "mla_decode_flash_attn_3",
        "flash_attn_3",
        "mla_absorbed",
        "mlabench.measure.peers.flash_attn_3:bind_mla",
        package="flash_attn_interface or vllm",
        install="pip install vllm",
        peer=True,
        reads_unused_slots=True,
    ),
    Kernel(
        "mla_decode_vllm_triton",
        "vllm_triton",
        "mla_absorbed",
        "mlabench.measure.peers.vllm_triton:bind",
        package="vllm",
        peer=True,
    ),
    Kernel(
        "mla_decode_sglang_triton",
        "sglang_triton",
        "mla_absorbed",
        "mlabench.measure.peers.sglang_triton:bind",
        package="sglang",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "grouped_decode_flashinfer",
        "flashinfer",
        "grouped",
        "mlabench.measure.peers.flashinfer_grouped:bind",
        package="flashinfer",
        install="pip install flashinfer-python",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "grouped_decode_flash_attn_3",
        "flash_attn_3",
        "grouped",
        "mlabench.measure.peers.flash_attn_3:bind_grouped",
        package="flash_attn_interface or vllm",
        install="pip install tokenspeed-fa3",
        peer=True,
        reads_unused_slots=True,
    ),
    Kernel(
        "grouped_decode_torch_flash",
        "torch_flash",
        "grouped",
        "mlabench.measure.peers.torch_sdpa:bind_flash",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "grouped_decode_torch_cudnn",
        "torch_cudnn",
        "grouped",
        "mlabench.measure.peers.torch_sdpa:bind_cudnn",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "grouped_prefill_flash_attn_3",
        "flash_attn_3",
        "grouped_prefill",
        "mlabench.measure.peers.flash_attn_3:bind_prefill",
        package="flash_attn_interface or vllm",
        install="pip install tokenspeed-fa3",
        peer=True,
        reads_unused_slots=True,
    ),
    Kernel(
        "grouped_prefill_flashinfer",
        "flashinfer",
        "grouped_prefill",
        "mlabench.measure.peers.flashinfer_grouped:bind_prefill",
        package="flashinfer",
        install="pip install flashinfer-python",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "grouped_prefill_torch_flash",
        "torch_flash",
        "grouped_prefill",
        "mlabench.measure.peers.torch_sdpa:bind_flash_prefill",
        writes_lse=False,
        peer=True,
    ),
    Kernel(
        "grouped_prefill_torch_cudnn",
        "torch_cudnn",
        "grouped_prefill",
        "mlabench.measure.peers.torch_sdpa:bind_cudnn_prefill",
        writes_lse=False,
        peer=True,
    ),
)
"""Kernels of other packages, none of which is needed."""

ALL_PEERS = "peers"
"""The word that selects every peer."""


@cache
def all_kernels() -> tuple[Kernel, ...]:
    """The suite's kernels and those of installed packages. Raises `UsageError` for an entry point that is no kernel."""
    from importlib.metadata import entry_points

    kernels = {kernel.name: kernel for kernel in (*KERNELS, *PEERS)}
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


def is_installed(package: str) -> bool:
    """Whether a package can be imported.

    A mere folder of its name, such as a checkout in the working directory, would import as an empty one.
    """
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def find_kernel(name: str) -> Kernel:
    """The kernel of this name. Raises `UsageError`."""
    for kernel in all_kernels():
        if kernel.name == name:
            return kernel
    raise UsageError(f"unknown kernel {name!r}: {near_names(name, (kernel.name for kernel in all_kernels()))}")


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
            raise UsageError(f"unknown kernel {name!r}: {near_names(name, known)}")


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


def launch_config(launch: Launch) -> dict[str, Any]:
    """What a bound kernel says it chose; empty for one that says nothing. Raises ValueError unless JSON can hold it."""
    config = dict(getattr(launch, "config", {}))
    json.dumps(config, allow_nan=False)
    return config


def workspace_bytes(launch: Launch) -> int | None:
    """What a bound kernel says it allocated; None for one that says nothing."""
    stated = getattr(launch, "workspace_bytes", None)
    return None if stated is None else int(stated)
