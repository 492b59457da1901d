"""Which files differ from a base's, and which of them no point runs."""

from pathlib import Path

import pytest

from mlabench.cli.ab_changes import LAYER_CASES, Changes, find_changes, imported_files
from mlabench.cli.ab_steps import blind_spot
from mlabench.measure.config import SweepConfig
from mlabench.measure.kernels import KERNELS, find_kernel
from mlabench.measure.side_by_side import Matchup
from mlabench.measure.sides import AskedSide
from tests.cli.commands import ROOT
from tests.factories import make_case

KERNEL_FOLDER = ROOT / "kernels"


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        path = folder / "own" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_imports_are_followed_in_every_form(tmp_path: Path) -> None:
    write(
        tmp_path,
        __init__="",
        start="import torch, own.plain\nfrom own import by_name\nfrom . import relative\nfrom own.deep import thing",
        plain="def f():\n    from .lazy import x",
        lazy="from own import start",
        by_name="",
        relative="",
        deep="",
        broken="def",
        apart="",
    )
    found = {path.name for path in imported_files(tmp_path, "own.start")}
    assert found == {f"{name}.py" for name in ["__init__", "start", "plain", "lazy", "by_name", "relative", "deep"]}
    assert imported_files(tmp_path, "own.broken") == {Path("own/__init__.py"), Path("own/broken.py")}
    assert imported_files(tmp_path, "elsewhere") == frozenset()


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_of_the_suite_starts_from_a_file(kernel: object) -> None:
    module = kernel.target.partition(":")[0]  # type: ignore[attr-defined]
    found = imported_files(KERNEL_FOLDER, module)
    assert Path(*module.split(".")).with_suffix(".py") in found
    assert Path("mla_kernels/launch.py") in found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The suite's kernels as another commit had them: three files differ, and one that no kernel imports."""
    folder = tmp_path / "mla_kernels"
    folder.mkdir()
    for path in (KERNEL_FOLDER / "mla_kernels").glob("*.py"):
        differs = path.stem in ("mla_decode_torch", "mla_prefill_torch", "rope", "reference")
        (folder / path.name).write_text("# older" if differs else path.read_text())
    return tmp_path


def matchup(base: Path, **fields: str) -> Matchup:
    side = AskedSide(find_kernel("mla_decode_torch"), "0123456", str(base))
    layer = {"hidden_size": 64, "q_lora_rank": 32} if fields.get("scope") == "layer" else {}
    return Matchup(make_case(**fields, **layer), side, (AskedSide(side.kernel),))


def test_what_differs_and_is_not_run_is_named_with_what_would_run_it(base: Path) -> None:
    one = matchup(base)
    changes = find_changes([one], [one])
    assert changes.num_run == 1
    assert [file for file, _ in changes.unrun] == ["mla_kernels/mla_prefill_torch.py", "mla_kernels/rope.py"]
    assert changes.warning == (
        "differs from the base, and no point runs it: mla_kernels/mla_prefill_torch.py (mla_prefill_torch), "
        f"mla_kernels/rope.py (mla_recompute_prefill, mla_recompute_prefill_torch, {LAYER_CASES})"
    )
    assert find_changes([one], []).num_run == 0


def test_a_layer_runs_its_parts(base: Path) -> None:
    one = matchup(base, scope="layer")
    assert [file for file, _ in find_changes([one], [one]).unrun] == ["mla_kernels/mla_prefill_torch.py"]


def test_the_line_of_many_files_is_bounded() -> None:
    users = tuple(f"kernel_{number}" for number in range(5))
    line = Changes(0, tuple((f"file_{number}.py", users) for number in range(9))).warning
    assert line.endswith("file_4.py (kernel_0, kernel_1, kernel_2 and 2 more) and 4 more")
    assert Changes(3).warning == ""


@pytest.mark.parametrize(
    ("changes", "kernels", "spot"),
    [
        (Changes(2), (), ""),
        (Changes(0, (("a.py", ()),)), (), "no point runs 1 of 1 files that differ"),
        (Changes(2, (("a.py", ()),)), (), "no point runs 1 of 3 files that differ"),
        (Changes(2, (("a.py", ()),)), ("torch",), ""),
        (Changes(0, (("a.py", ()),)), ("torch",), "no point runs 1 of 1 files that differ"),
    ],
)
def test_kernels_that_were_chosen_leave_others_out_on_purpose(
    changes: Changes, kernels: tuple[str, ...], spot: str
) -> None:
    assert blind_spot(changes, SweepConfig(kernel=kernels)) == spot
