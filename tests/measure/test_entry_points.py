"""Kernels of other packages: those that load, those that do not, and the code that they are of."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.measure.entry_points import sources_of
from mlabench.measure.kernels import (
    all_kernels,
    broken_entry_points,
    check_selection,
    find_kernel,
    joined_kernels,
    kernels_for,
)
from mlabench.measure.sources import sources_digest

GOOD = """
from mlabench.measure.kernels import Kernel
MINE = Kernel(name="mine", backend="own", contract="mla_absorbed", target="own_package:bind", devices=("cpu",))
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module, whose attribute MINE an entry point names."""

    def install(text: str, name: str = "mine") -> Path:
        (tmp_path / "own_package.py").write_text(text)
        info = tmp_path / "own_decode-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-decode\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[mlabench.kernels]\n{name} = own_package:MINE\n")
        importlib.invalidate_caches()
        all_kernels.cache_clear()
        return tmp_path

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    all_kernels.cache_clear()
    sys.modules.pop("own_package", None)


def test_a_kernel_is_told_with_its_distribution_and_sources(install: Install) -> None:
    folder = install(GOOD)
    own = sources_of(joined_kernels())["mine"]
    assert own == {
        "distribution": "own-decode",
        "version": "1.2",
        "source_digest": sources_digest("own_package", folder),
    }
    (folder / "own_package.py").write_text(GOOD + "\n# changed\n")
    assert sources_of(joined_kernels())["mine"]["source_digest"] not in (None, own["source_digest"])


def test_a_target_that_is_not_there_has_no_digest_and_says_why(install: Install) -> None:
    install(GOOD.replace("own_package:bind", "elsewhere:bind"))
    assert sources_of(joined_kernels())["mine"]["source_digest"] is None
    assert find_kernel("mine").unresolved() == (
        "its target elsewhere:bind does not load: No module named 'elsewhere'; mend the target or its module"
    )


def test_a_target_that_is_no_function_says_so(install: Install) -> None:
    install(GOOD.replace("own_package:bind", "own_package:MINE"))
    assert "own_package:MINE is not callable: name a function" in find_kernel("mine").unresolved()
    assert find_kernel("mla_decode_torch").unresolved() == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import not_there",
            "does not load: No module named 'not_there'; mend or un",
        ),
        ("raise RuntimeError", "does not load: RuntimeError; mend or uninstall it"),
        ("raise ValueError('first\\nsecond')", "does not load: first; mend"),
        ("MINE = 1", "is no mlabench.measure.kernels.Kernel"),
        (GOOD.replace('"mine"', '"mla_decode_torch"'), "a kernel named mla_decode_torch is already there"),
        (GOOD.replace("mla_absorbed", "mla_absorbd"), "unknown contract 'mla_absorbd': did you mean mla_absorbed"),
        (GOOD.replace('("cpu",)', '"cpu"'), "its devices 'cpu' are no tuple of cuda and cpu: write devices=(\"cpu\",)"),
        (GOOD.replace('("cpu",)', '("gpu",)'), "its devices ('gpu',) are no tuple of cuda and cpu"),
        (GOOD.replace('("cpu",)', "()"), "its devices () are no tuple"),
        (
            GOOD.replace('"own"', '"peers"'),
            "its backend 'peers' cannot be chosen by --kernel: take a word without a comma",
        ),
        (GOOD.replace('"mine"', '"mine,yours"'), "its name 'mine,yours' cannot be chosen by --kernel"),
        (GOOD.replace('"mine"', '""'), "its name '' cannot be chosen by --kernel"),
        (
            GOOD.replace("devices", 'writes_lse="no", devices'),
            "its writes_lse 'no' is neither True nor False: write one",
        ),
        (GOOD.replace(":bind", ""), "its target 'own_package' is no module:function"),
        (GOOD.replace('"own_package:bind"', "print"), "its target <built-in function print> is no module:function"),
    ],
)
def test_a_broken_one_stops_only_who_names_it(install: Install, text: str, reason: str) -> None:
    install(text)
    assert reason in broken_entry_points()["mine"]
    check_selection(["torch", "mla_decode_torch"])
    (case,) = make_cases({"variant": ("mla",)})
    assert [kernel.name for kernel in kernels_for(case, "cpu")] == ["mla_decode_torch"]
    for look_up in (find_kernel, lambda name: check_selection([name])):
        with pytest.raises(UsageError) as refused:
            look_up("mine")
        assert str(refused.value) == broken_entry_points()["mine"]


def test_an_unknown_name_may_be_that_of_a_broken_one(install: Install) -> None:
    install("MINE = 1")
    with pytest.raises(UsageError, match=r"unknown kernel 'own': .*; entry point mine \(own_package:MINE\) is no mla"):
        check_selection(["own"])
    with pytest.raises(UsageError) as refused:
        check_selection(["tritn"])
    asked, broken = str(refused.value).split("; ")
    assert asked.startswith("unknown kernel 'tritn': did you mean triton")
    assert broken == "1 broken entry point of other names: see `mlabench list kernels`"
