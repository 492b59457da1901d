"""The pages on measuring: each figure is recomputed from the committed evidence or the code, and the commands exist."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from mlabench.cli.app import app
from tests.cli.commands import ROOT, call
from tests.measuring import campaign_claims, doctor_claims, timing_claims
from tests.measuring.evidence import EVIDENCE, diagnosis

Claims = Callable[[], Iterator[str]]

PAGE = ROOT / "docs" / "measuring.md"
INDEX = EVIDENCE / "README.md"
DOCUMENTS = (PAGE, INDEX, ROOT / "docs" / "gating.md", ROOT / "README.md", ROOT / "CONTRIBUTING.md")
TEXT = PAGE.read_text(encoding="utf-8")
WORDS = " ".join(re.sub(r"^    .*$", "", TEXT, flags=re.M).split())

CLAIMS: tuple[Claims, ...] = (*timing_claims.CLAIMS, *doctor_claims.CLAIMS, *campaign_claims.CLAIMS)
"""Each gives the phrases, figures included, that must stand on the page."""

NO_FIGURES = (
    "(Hettmansperger and Sheather, 1986)",
    "(Once, not among the committed files, a burst of 8192^3 bfloat16 products ran at 1510 MHz while NVML still said "
    "1920 to 1980.)",
)
"""Parts of the page whose digits the evidence does not hold."""


@cache
def phrases(claims: Claims) -> tuple[str, ...]:
    return tuple(claims())


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda claims: claims.__name__)
def test_figures_are_those_of_the_evidence(claims: Claims) -> None:
    assert [phrase for phrase in phrases(claims) if phrase not in WORDS] == []


def test_no_figure_goes_unchecked() -> None:
    left = WORDS
    for phrase in sorted((*NO_FIGURES, *(p for claims in CLAIMS for p in phrases(claims))), key=len, reverse=True):
        left = left.replace(phrase, " … ")
    left = re.sub(r"`[^`]*`|\]\([^)]*\)", "", left)
    # A digit inside a word is a name: H200, L2, float64, GQA-8.
    assert re.findall(r".{,40}(?<![\w-])-?\d[\d.,]*.{,20}", left) == []


def test_the_evidence_is_listed_with_its_sources() -> None:
    words = " ".join(INDEX.read_text(encoding="utf-8").split())
    for path in sorted(EVIDENCE.glob("*/*/manifest.json")):
        assert f"| `{path.parent.parent.name}/" in words
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in EVIDENCE.glob("*/*/manifest.json")]
    for plain in (diagnosis(), *manifests):
        code = plain["provenance"]
        assert not code["dirty"]
        assert f"| `{code['commit'][:7]}` | `{code['source_digest']}` |" in words
    for name in (path.name for path in EVIDENCE.iterdir() if path.is_file() and path != INDEX):
        assert f"`{name}`" in words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_known(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^    mlabench ([a-z]+)(.*)$", path.read_text(encoding="utf-8"), re.M)
    for name, rest in commands:
        assert name in {command.name for command in app.registered_commands}
        call(monkeypatch, name, "--help")
        options = set(re.findall(r"(?<!\w)--?[a-z][a-z-]*", capsys.readouterr().out))
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", re.split("#|[|][|]", rest)[0])) <= options


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_linked_files_exist(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
