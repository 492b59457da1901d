"""The manifest: what it holds comes back, and it knows whether a kernel's code is another."""

from dataclasses import replace

import pytest

from mlabench.records.manifest import Manifest
from tests.factories import make_run

SOURCE = {"distribution": "my-decode", "version": "1.0", "source_digest": "0123456789abcdef"}

MANIFEST = replace(make_run(None, []).manifest, kernel_sources={"my_decode": SOURCE})


def test_it_comes_back_as_it_was() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_one_that_is_older_than_kernels_sources_is_read() -> None:
    plain = MANIFEST.to_json()
    del plain["kernel_sources"]
    old = Manifest.from_json(plain)
    assert old.kernel_sources is None
    assert old.changed_kernels({"my_decode": SOURCE}) == []


def test_sources_that_are_no_table_are_refused() -> None:
    with pytest.raises(TypeError, match="kernel_sources is no table"):
        Manifest.from_json(MANIFEST.to_json() | {"kernel_sources": {"my_decode": "1.0"}})


def test_a_changed_kernel_is_named_with_what_it_was() -> None:
    assert MANIFEST.changed_kernels({"my_decode": SOURCE, "new": SOURCE}) == []
    assert MANIFEST.changed_kernels({}) == []
    later = {"distribution": None, "version": None, "source_digest": None}
    assert MANIFEST.changed_kernels({"my_decode": {**SOURCE, "version": "1.1"}, "other": later}) == [
        "my_decode is of my-decode 1.1 (sources 0123456789abcdef), and was of my-decode 1.0 (sources 0123456789abcdef)"
    ]
    assert MANIFEST.changed_kernels({"my_decode": later}) == [
        "my_decode is of an unknown distribution (sources unknown), and was of my-decode 1.0 (sources 0123456789abcdef)"
    ]
