"""The kernel table and what is chosen from it."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlabench.cases.grid import make_cases
from mlabench.errors import UsageError
from mlabench.measure.config import SweepConfig
from mlabench.measure.kernels import KERNELS, PEERS, Kernel, all_kernels, check_selection, find_kernel, kernels_for
from mlabench.measure.plan import make_points
from mlabench.measure.runner import Runner
from mlabench.measure.timing.fake import FakeTimer
from tests.git_kernels import EditableFinder

MLA, GQA = make_cases({"variant": ("mla",)})[0], make_cases({"variant": ("gqa",)})[0]


def names(*arguments: object) -> list[str]:
    return [kernel.name for kernel in kernels_for(*arguments)]  # type: ignore[arg-type]


def test_without_names_the_devices_own_kernels_are_chosen() -> None:
    assert names(MLA, "cpu") == ["mla_decode_torch"]
    own = ["mla_decode", "mla_decode_triton", "mla_decode_torch"]
    assert names(MLA, "cuda") == own
    assert names(GQA, "cuda") == ["grouped_decode_triton", "grouped_decode_torch"]


def test_a_phase_has_kernels_of_its_own() -> None:
    absorbed, expanded, recompute = make_cases({"phase": ("prefill",), "form": ("absorbed", "expanded", "recompute")})
    assert names(absorbed, "cpu") == ["mla_prefill_torch"]
    assert names(absorbed, "cuda") == ["mla_prefill", "mla_prefill_triton", "mla_prefill_torch"]
    assert names(recompute, "cpu") == ["mla_recompute_prefill_torch"]
    assert names(recompute, "cuda") == ["mla_recompute_prefill", "mla_recompute_prefill_torch"]
    assert names(expanded, "cpu") == ["grouped_prefill_torch"]
    assert names(expanded, "cuda") == ["grouped_prefill", "grouped_prefill_triton", "grouped_prefill_torch"]
    assert names(expanded, "cuda", ["gluon"]) == ["grouped_prefill_gluon"]
    assert names(absorbed, "cuda", ["peers", "grouped_decode_triton"]) == []
    assert names(expanded, "cuda", ["flash_attn_3", "grouped_decode_triton"]) == ["grouped_prefill_flash_attn_3"]


def test_a_backend_or_a_kernel_may_be_named() -> None:
    assert names(MLA, "cuda", ["triton"]) == ["mla_decode_triton"]
    assert names(MLA, "cuda", ["mla_decode_torch"]) == ["mla_decode_torch"]
    assert names(GQA, "cuda", ["mla_decode_torch"]) == []


def test_the_chosen_kernel_is_measured_where_it_is_named() -> None:
    absorbed, expanded = make_cases({"phase": ("prefill",), "form": ("absorbed", "expanded")})
    for case, name in ((MLA, "mla_decode"), (absorbed, "mla_prefill"), (expanded, "grouped_prefill")):
        assert names(case, "cuda", [name]) == [name]
        assert names(case, "cuda", ["chosen"]) == [name]
        Runner("cuda", FakeTimer((1.0,))).require(replace(find_kernel(name), package=""))


@pytest.mark.parametrize("kernel", [*KERNELS, *PEERS], ids=lambda kernel: kernel.name)
def test_every_kernel_runs_somewhere(kernel: Kernel) -> None:
    assert kernel.devices


def test_peers_run_only_where_they_are_named() -> None:
    mine = [kernel.name for kernel in PEERS if kernel.contract == "mla_absorbed"]
    assert names(MLA, "cuda", ["peers"]) == mine
    assert names(MLA, "cuda", ["triton", "flash_mla"]) == ["mla_decode_triton", "mla_decode_flash_mla"]
    assert names(GQA, "cuda", ["flash_attn_3"]) == ["grouped_decode_flash_attn_3"]
    assert not set(names(MLA, "cuda")).intersection(mine)
    check_selection(["peers", "flashinfer_fa3", "grouped_decode_torch_cudnn"])


def test_one_of_several_packages_is_enough() -> None:
    kernel = Kernel(
        "mine", "mine", "grouped", "mine:bind", package="no_such_package or torch", install="pip install it"
    )
    assert kernel.missing() == ""
    gone = Kernel(
        "mine", "mine", "grouped", "mine:bind", package="no_such_package or nor_this", install="pip install it"
    )
    assert gone.missing() == "the package no_such_package or nor_this is not installed: pip install it"


def test_a_folder_of_its_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_checkout" / "tests").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    kernel = Kernel("mine", "mine", "grouped", "mine:bind", package="a_checkout")
    assert kernel.missing() == "the package a_checkout is not installed: pip install a_checkout"
    (tmp_path / "a_checkout" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert kernel.missing() == ""


def test_a_module_that_another_copy_of_the_package_has_alone_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copy, modules in (("here", ("kept",)), ("there", ("kept", "deleted", "helper"))):
        package = tmp_path / copy / "copied_kernels"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        for module in modules:
            (package / f"{module}.py").write_text("bind = print\n")
    (tmp_path / "here" / "copied_kernels" / "leaning.py").write_text("from copied_kernels.helper import bind\n")
    monkeypatch.syspath_prepend(tmp_path / "here")
    finder = EditableFinder({"copied_kernels": tmp_path / "there" / "copied_kernels"})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    for module in ("deleted", "leaning", "kept"):
        kernel = Kernel("mine", "mine", "grouped", f"copied_kernels.{module}:bind")
        if module == "kept":
            assert kernel.load() is print
        else:
            with pytest.raises(ModuleNotFoundError, match=f"{tmp_path}/here/copied_kernels has no copied_kernels"):
                kernel.load()
        for name in [name for name in sys.modules if name.partition(".")[0] == "copied_kernels"]:
            del sys.modules[name]


def test_a_case_that_no_chosen_kernel_takes_stays_a_point() -> None:
    config = SweepConfig(axes={"variant": ("gqa", "mla")}, kernel=("mla_decode_torch",))
    points = make_points(config, "cpu")
    assert [point.kernel and point.kernel.name for point in points] == [None, "mla_decode_torch"]


def test_names_of_nothing_are_refused_with_the_near_ones() -> None:
    with pytest.raises(UsageError, match="unknown kernel 'tritn': did you mean triton"):
        check_selection(["torch", "tritn"])


def test_several_names_in_one_are_told_apart() -> None:
    with pytest.raises(UsageError, match="did you mean triton and mla_decode_torch, each named by itself"):
        check_selection(["triton, mla_decode_torch"])
    with pytest.raises(UsageError, match="did you mean mla_decode_torch or "):
        check_selection(["tritn,mla_decode_torch"])


def test_every_kernel_has_its_own_name_and_a_target() -> None:
    rows = (*KERNELS, *PEERS)
    assert len({kernel.name for kernel in rows}) == len(rows)
    assert all(":" in kernel.target for kernel in rows)


@pytest.mark.parametrize("kernel", PEERS, ids=lambda kernel: kernel.name)
def test_peers_load_without_their_packages(kernel: Kernel) -> None:
    assert kernel.peer
    assert callable(kernel.load())


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if "cpu" in kernel.devices], ids=lambda k: k.name)
def test_cpu_kernels_load(kernel: object) -> None:
    assert callable(kernel.load())  # type: ignore[attr-defined]


@pytest.mark.usefixtures("faulty_kernels")
def test_another_package_joins_by_an_entry_point() -> None:
    assert find_kernel("wrong").backend == "faulty"
    assert len(all_kernels()) > len(KERNELS)


def test_an_unknown_contract_is_refused_with_the_near_ones() -> None:
    with pytest.raises(UsageError, match="unknown contract 'mla_absorbd': did you mean mla_absorbed"):
        Kernel("mine", "mine", "mla_absorbd", "mine:bind")
