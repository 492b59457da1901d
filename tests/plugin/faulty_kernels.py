"""Kernels of another package, joined by entry points: each is the torch MLA decode with one fault."""

import os
import signal
import sys
import time

from mlabench.measure.kernels import Kernel


def _kernel(name: str, package: str = "", writes_lse: bool = False) -> Kernel:
    target = f"faulty_kernels:bind_{name}"
    return Kernel(name, "faulty", "mla_absorbed", target, ("cpu", "cuda"), package=package, writes_lse=writes_lse)


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
NAN_ELEMENT = _kernel("nan_element")
UNWRITTEN_ROW = _kernel("unwritten_row")
ADDING = _kernel("adding")
SHORT = _kernel("short")
LONG = _kernel("long")
SPENDING = _kernel("spending")
WRONG_LSE = _kernel("wrong_lse", writes_lse=True)
NO_LSE = _kernel("no_lse", writes_lse=True)
KILLED = _kernel("killed")
LEAVING = _kernel("leaving")
TIRING = _kernel("tiring")
UNEVEN = _kernel("uneven")
EVEN_ONLY = _kernel("even_only")
FULL_ONLY = _kernel("full_only")
HOLLOW = _kernel("hollow")
SEGMENTED = _kernel("segmented")


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
    """Right or with the fault that the environment names: one kernel before and after a change."""
    fault = os.environ.get("SWITCHABLE_FAULT")
    return (globals()[f"bind_{fault}"] if fault else _right)(**tensors)


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


def _then(change):
    """Binds the right kernel, followed in each call by a change of its tensors."""

    def bind(**tensors):
        launch = _right(**tensors)

        def run():
            launch()
            change(tensors)

        return run

    return bind


bind_nan_element = _then(lambda tensors: tensors["out"].view(-1)[-1:].fill_(float("nan")))
bind_wrong_lse = _then(lambda tensors: tensors["lse"].fill_(1.0))
bind_spending = _then(lambda tensors: tensors["kv_cache"].mul_(0.5))


def bind_no_lse(**tensors):
    return _right(**tensors)


def bind_unwritten_row(**tensors):
    launch, row = _right(**tensors), tensors["out"][-1, -1, -1]

    def run():
        kept = row.clone()
        launch()
        row.copy_(kept)

    return run


def bind_adding(**tensors):
    """Adds its result to what is there."""
    own = tensors["out"].clone()
    launch = _right(**{**tensors, "out": own})

    def run():
        launch()
        tensors["out"].add_(own)

    return run


def bind_short(**tensors):
    """Leaves each request's last token out."""
    return _right(**{**tensors, "kv_lens": tensors["kv_lens"] - 1})


def bind_long(**tensors):
    """Reads a cache slot beyond each request's last."""
    return _right(**{**tensors, "kv_lens": tensors["kv_lens"] + 1})


def bind_killed(**tensors):
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def bind_leaving(**tensors):
    return sys.exit


def bind_tiring(**tensors):
    """Passes the check, and ends the process in the first call after it."""
    launch, calls = _right(**tensors), []

    def run():
        launch()
        calls.append(1)
        if len(calls) > 2:
            os.abort()

    return run


def bind_uneven(**tensors):
    """Leaves the last token of each request of odd length out."""
    return _right(**{**tensors, "kv_lens": tensors["kv_lens"] // 2 * 2})


def bind_even_only(**tensors):
    """Says that it takes no odd lengths, which it would get wrong."""
    if (tensors["kv_lens"] % 2).any():
        raise NotImplementedError("only even lengths")
    return bind_uneven(**tensors)


def bind_full_only(**tensors):
    """Says that it takes no empty requests, for which it would write nothing."""
    if (tensors["kv_lens"] == 0).any():
        raise NotImplementedError("no empty requests")
    return bind_hollow(**tensors)


def bind_hollow(**tensors):
    """Writes nothing for a request without tokens."""
    launch, empty = _right(**tensors), tensors["kv_lens"] == 0

    def run():
        launch()
        tensors["out"][empty] = float("nan")

    return run


def bind_segmented(**tensors):
    import ctypes

    return lambda: ctypes.string_at(0)
