"""One row of the kernel table: what is known of a kernel before it is loaded, and what its launch tells once bound."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlabench.errors import UsageError, first_line, near_names
from mlabench.measure.check import REFERENCES

Launch = Callable[[], None]
Bind = Callable[..., Launch]

DEVICES = ("cuda", "cpu")
"""The kinds of devices that a kernel may run on."""


ALL_PEERS = "peers"
"""The word that selects every peer, and so is no kernel's or backend's name."""

FLAGS = ("writes_lse", "peer", "reads_unused_slots", "by_default")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to compute the cases of a contract: the set of tensors that a case's `contract` names.

    `target` is `module:function`, `devices` are some of `DEVICES`. The function takes the case's tensors by their spec
    names and `softmax_scale`, plans, and returns a callable without arguments that launches the work. It raises
    NotImplementedError, with a clear line, for a shape it does not do. Where `writes_lse` is false the log-sum-exp is
    not checked. `package` is what must be installed, or several joined by ` or ` of which one is enough. A `peer`, and
    one that is not `by_default`, runs only where it is asked for. One that `reads_unused_slots`, and lets what is there
    into its output unless it is finite, is given finite values behind the last token of a request; for all others those
    slots hold NaN.

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
        for what, word in (("name", self.name), ("backend", self.backend)):
            if not isinstance(word, str) or not word.strip() or "," in word or word == ALL_PEERS:
                raise UsageError(
                    f"kernel {self.name}: its {what} {word!r} cannot be chosen by --kernel: take a word without a "
                    f"comma, other than {ALL_PEERS}"
                )
        for flag in FLAGS:
            if not isinstance(getattr(self, flag), bool):
                raise UsageError(
                    f"kernel {self.name}: its {flag} {getattr(self, flag)!r} is neither True nor False: "
                    "write one of them without quotes"
                )
        if self.contract not in REFERENCES:
            raise UsageError(
                f"kernel {self.name}: unknown contract {self.contract!r}: {near_names(self.contract, REFERENCES)}"
            )
        if not isinstance(self.target, str) or not all(self.target.partition(":")):
            raise UsageError(f"kernel {self.name}: its target {self.target!r} is no module:function")
        if not isinstance(self.devices, tuple) or not self.devices or not set(self.devices) <= set(DEVICES):
            raise UsageError(
                f"kernel {self.name}: its devices {self.devices!r} are no tuple of cuda and cpu: "
                'write devices=("cpu",), or leave it away for ("cuda",)'
            )

    def missing(self) -> str:
        """Why the kernel cannot be loaded here, with the way to mend it; empty where it can."""
        if not self.package or any(map(is_installed, self.package.split(" or "))):
            return ""
        return f"the package {self.package} is not installed: {self.install or f'pip install {self.package}'}"

    def unresolved(self) -> str:
        """Why `load` fails, with the way to mend it; empty where it does not. Imports what the target is in."""
        try:
            return "" if callable(self.load()) else f"its target {self.target} is not callable: name a function"
        except Exception as error:
            text = first_line(error) or type(error).__name__
            return f"its target {self.target} does not load: {text}; mend the target or its module"

    def load(self) -> Bind:
        """Import the function that binds this kernel.

        Raises ModuleNotFoundError for a module that another copy of its package has alone, besides what importing does.
        """
        module, _, name = self.target.partition(":")
        bind: Bind = getattr(import_module(module), name)
        _require_one_copy(module.partition(".")[0])
        return bind


def _require_one_copy(package: str) -> None:
    """Raise for a module of another copy of its package.

    An editable install finds its own file where the copy on the path has none: a kernel that was deleted would live on.
    """
    own: str | None = getattr(sys.modules.get(package), "__file__", None)
    if not own:
        return
    for name in [each for each in sys.modules if each.startswith(f"{package}.")]:
        file: str | None = getattr(sys.modules[name], "__file__", None)
        first = _first_file(name, Path(file).resolve()) if file else None
        if first and first.is_file() and first != Path(own).resolve():
            raise ModuleNotFoundError(f"{Path(own).parent} has no {name}, and {file} is of another copy", name=name)


def _first_file(module: str, file: Path) -> Path | None:
    """The `__init__.py` of the top-level package in the copy that a module's file is of, if there were one."""
    folders = (file.parent if file.name == "__init__.py" else file.with_suffix("")).parents
    depth = module.count(".")
    return folders[depth - 1] / "__init__.py" if depth <= len(folders) else None


def is_installed(package: str) -> bool:
    """Whether a package can be imported.

    A mere folder of its name, such as a checkout in the working directory, would import as an empty one.
    """
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def launch_config(launch: Launch) -> dict[str, Any]:
    """What a bound kernel says it chose; empty for one that says nothing. Raises ValueError unless JSON can hold it."""
    config = dict(getattr(launch, "config", {}))
    json.dumps(config, allow_nan=False)
    return config


def workspace_bytes(launch: Launch) -> int | None:
    """What a bound kernel says it allocated; None for one that says nothing."""
    stated = getattr(launch, "workspace_bytes", None)
    return None if stated is None else int(stated)
