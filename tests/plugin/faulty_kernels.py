"""Kernels of another package, joined by entry points: each is the torch MLA decode with one fault."""

import os
import time

from mlabench.measure.kernels import Kernel


def _kernel(name: str, package: str = "") -> Kernel:
    target = f"faulty_kernels:bind_{name}"
    return Kernel(name, "faulty", "mla_absorbed", target, ("cpu", "cuda"), package=package, writes_lse=False)


WRONG = _kernel("wrong")
STALE = _kernel("stale")
REMEMBERING = _kernel("remembering")
NONSENSE = _kernel("nonsense")
DRIFTING = _kernel("drifting")
SLOW = _kernel("slow")
SWITCHABLE = _kernel("switchable")
CRASHING = _kernel("crashing")
FAULTING = _kernel("faulting")
RAISING = _kernel("raising")
HUNGRY = _kernel("hungry")
NARROW = _kernel("narrow")
HANGING = _kernel("hanging")
ABSENT = _kernel("absent", package="a_package_that_is_not_there")
CHATTY = _kernel("chatty")


def _right(**tensors):
    from mla_kernels.mla_decode_torch import bind

    return bind(**tensors)


def bind_wrong(**tensors):
    launch = _right(**tensors)

    def run():
        launch()
        tensors["out"].mul_(1.02)

    return run


def bind_stale(**tensors):
    launch, calls = _right(**tensors), []

    def run():
        if not calls:
            launch()
        calls.append(1)

    return run


def bind_remembering(**tensors):
    """Does all of its work in bind and copies the result out in the call."""
    _right(**tensors)()
    saved = tensors["out"].clone()

    def run():
        tensors["out"].copy_(saved)

    return run


class _Nonsense:
    config = (("splits", float("nan")),)

    def __init__(self, launch):
        self._launch = launch

    def __call__(self):
        self._launch()


def bind_nonsense(**tensors):
    return _Nonsense(_right(**tensors))


def bind_drifting(**tensors):
    launch, calls = _right(**tensors), []

    def run():
        launch()
        calls.append(1)
        if len(calls) > 2:
            tensors["out"].mul_(1.02)

    return run


def bind_slow(**tensors):
    launch = _right(**tensors)

    def run():
        launch()
        launch()

    return run


def bind_switchable(**tensors):
    """Right, slow or wrong, as the environment says: one kernel before and after a change."""
    return {"": _right, "slow": bind_slow, "wrong": bind_wrong}[os.environ.get("SWITCHABLE_FAULT", "")](**tensors)


def bind_crashing(**tensors):
    return os.abort


def bind_faulting(**tensors):
    """On a GPU: reads far outside of a tensor, after which the CUDA context is lost."""
    import torch

    table = torch.zeros(8, device=tensors["q"].device)
    outside = torch.tensor([1 << 40], device=tensors["q"].device)

    def run():
        tensors["out"].add_(table[outside])

    return run


def bind_raising(**tensors):
    raise ValueError("this kernel always fails\nwith a second line")


def bind_hungry(**tensors):
    raise MemoryError("no room")


def bind_narrow(**tensors):
    raise NotImplementedError("only 17 heads")


def bind_hanging(**tensors):
    return lambda: time.sleep(3600)


def bind_absent(**tensors):
    raise AssertionError("must not be loaded")


def bind_chatty(**tensors):
    print("a line on standard output")
    return _right(**tensors)
