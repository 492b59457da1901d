"""The faulty kernels, importable here and in the processes that compile."""

from tests.measure.conftest import faulty_kernels

__all__ = ["faulty_kernels"]
