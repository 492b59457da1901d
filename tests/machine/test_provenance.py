"""Which code a run came from."""

import pytest

from mlabench.machine.provenance import COMMIT_VARIABLE, source_digest, take_provenance


def test_a_commit_that_is_named_outweighs_the_git_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, "0123abc")
    provenance = take_provenance()
    assert (provenance.commit, provenance.dirty) == ("0123abc", None)
    assert provenance.source_digest == source_digest()


def test_without_a_name_it_is_git_that_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    commit = take_provenance().commit
    assert commit is None or len(commit) == 40
