"""What an exception of a kernel makes of a point: its status, and a line on what was raised, where, and why."""

import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlabench.errors import first_line
from mlabench.measure.inputs import UNUSED_PAGE_ID

MEANINGS = (
    (f"{UNUSED_PAGE_ID} is out of bounds", "it followed an entry of the block table behind a request's last page"),
    (
        "0 active drivers",
        "Triton finds no GPU: set TRITON_INTERPRET=1 to run it in the interpreter, with --dtype float16",
    ),
)
"""What is in the text of an error, and what that says of a kernel."""

NOT_THE_KERNELS = ("mlabench", "torch", "triton", "numpy")
"""Packages whose lines do not tell where in a kernel it went wrong."""


def describe_failure(error: Exception) -> dict[str, Any]:
    """The status and reason of a point whose kernel raised this."""
    text = first_line(error)
    if isinstance(error, NotImplementedError):
        return {"status": "unsupported", "reason": text or "the kernel does not do this shape"}
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return {"status": "oom", "reason": text or "out of memory"}
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    meaning = next((f": {meaning}" for sign, meaning in MEANINGS if sign in text), "")
    return {"status": "error", "reason": reason + _place(error) + meaning}


def _place(error: Exception) -> str:
    """The innermost line of the kernel that the error went through; empty for one that went through none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith("<") and not _is_others(Path(frame.filename)):
            return f" (in {frame.name}, {Path(frame.filename).name} line {frame.lineno})"
    return ""


def _is_others(file: Path) -> bool:
    if any(file.is_relative_to(folder) for folder in _folders()):
        return True
    stdlib = Path(sysconfig.get_path("stdlib"))
    # What is installed may lie within the standard library's folder.
    return file.is_relative_to(stdlib) and not {"site-packages", "dist-packages"}.intersection(file.parts)


def _folders() -> Iterator[Path]:
    for name in NOT_THE_KERNELS:
        if file := getattr(sys.modules.get(name), "__file__", None):
            yield Path(file).parent
