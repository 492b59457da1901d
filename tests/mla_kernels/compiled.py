"""Compiles the Triton kernels' default configurations for sm_90 without a GPU; started in a process of its own.

`python -m tests.mla_kernels.compiled` prints a JSON object: case -> what the machine code uses. ptxas and cuobjdump
are those of the triton wheel.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mla_kernels import grouped_decode_triton, mla_decode_triton

BINARIES = Path(triton.backends.nvidia.__file__).parent / "bin"
BATCH, PAGE_SIZE, NUM_SMS = 128, 64, 132
INTEGERS = ("batch", "q_len", "num_q_heads", "num_kv_heads", "max_pages", "num_splits")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def mla(rows: int, dtype: str, num_splits: int | None = None) -> dict:
    """512 + 64 columns."""
    config = mla_decode_triton.default_config(rows=rows, kv_dim=576, page_size=PAGE_SIZE, itemsize=2, num_sms=NUM_SMS)
    config["num_splits"] = num_splits or config["num_splits"]
    constants = mla_decode_triton.kernel_constants(
        config, batch=BATCH, q_len=1, kv_lora_rank=512, rope_dim=64, page_size=PAGE_SIZE, dtype=DTYPES[dtype]
    )
    widths = {"nope_tiles": 512, "rope_tiles": 64}
    return config | compile_for_hopper(mla_decode_triton.mla_decode_kernel, config, constants, widths, dtype)


def grouped(rows: int, num_kv_heads: int, qk_dim: int, v_dim: int, dtype: str) -> dict:
    """`rows` query heads a KV head."""
    config = grouped_decode_triton.default_config(
        batch=BATCH, rows=rows, num_kv_heads=num_kv_heads, qk_dim=qk_dim, v_dim=v_dim, page_size=PAGE_SIZE, itemsize=2,
        num_sms=NUM_SMS,
    )  # fmt: skip
    constants = grouped_decode_triton.kernel_constants(
        config, batch=BATCH, q_len=1, qk_dim=qk_dim, v_dim=v_dim, page_size=PAGE_SIZE, dtype=DTYPES[dtype]
    )
    widths = {"k_tiles": constants["K1"], "k_tiles2": constants["K2"]}
    widths |= {"v_tiles": constants["V1"], "v_tiles2": constants["V2"]}
    return config | compile_for_hopper(grouped_decode_triton.grouped_decode_kernel, config, constants, widths, dtype)


CASES = {
    "MLA, 16 rows, bf16": lambda: mla(16, "bf16"),
    "MLA, 16 rows, fp16": lambda: mla(16, "fp16"),
    "MLA, 128 rows, bf16": lambda: mla(128, "bf16"),
    "MLA, 128 rows, fp16": lambda: mla(128, "fp16"),
    "MLA, 128 rows, whole requests": lambda: mla(128, "bf16", num_splits=1),
    "GQA-8 of 128 heads, bf16": lambda: grouped(16, 8, 128, 128, "bf16"),
    "MQA of 128 heads, bf16": lambda: grouped(128, 1, 128, 128, "bf16"),
    "MQA of 128 heads, fp16": lambda: grouped(128, 1, 128, 128, "fp16"),
    "expanded MLA, bf16": lambda: grouped(1, 128, 192, 128, "bf16"),
    "expanded MLA, fp16": lambda: grouped(1, 128, 192, 128, "fp16"),
}


def compile_for_hopper(kernel, config: dict, constants: dict, widths: dict[str, int], dtype: str) -> dict:
    """Registers, spills and instructions of a kernel's machine code."""
    constants = constants | {"q_len": 1}
    signature = {name: argument_type(name, constants, widths, config, dtype) for name in kernel.arg_names}
    aligned = {"batch", "num_q_heads", "num_kv_heads", "max_pages"}
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or (kind == "i32" and name in aligned)
    }
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": config["num_warps"]})
    return {"shared_bytes": compiled.metadata.shared} | read_machine_code(compiled.asm["cubin"])


def argument_type(name: str, constants: dict, widths: dict[str, int], config: dict, dtype: str) -> str:
    """The type of a kernel argument in Triton's notation."""
    if name in constants:
        return "constexpr"
    if name in widths and config["use_tma"]:
        return f"tensordesc<{dtype}[{config['block_n']}, {widths[name]}]>"
    special = {"block_table": "*i32", "kv_lens": "*i32", "scale_log2": "fp32"} | dict.fromkeys(INTEGERS, "i32")
    floats = dict.fromkeys(("lse", "part_out", "part_lse"), "*fp32")
    return (special | floats).get(name, f"*{dtype}")


def read_machine_code(cubin: bytes) -> dict:
    """Counts from cuobjdump; `loop_spills` are local-memory accesses inside the innermost tensor-core loops."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, sass = (
            subprocess.run(
                [BINARIES / "cuobjdump", option, file.name], capture_output=True, text=True, check=True
            ).stdout
            for option in ("-res-usage", "-sass")
        )
    code = [(int(a, 16), text) for a, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);", sass)]
    loops = [
        (int(target[1], 16), address)
        for address, text in code
        if (target := re.search(r"\bBRA\S* .*?(0x[0-9a-f]+)", text)) and int(target[1], 16) < address
    ]
    innermost = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    bodies = [[text for address, text in code if start <= address <= stop] for start, stop in innermost]
    hot = [body for body in bodies if any(re.search(r"\bH?G?MMA", text) for text in body)]
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack_bytes": int(re.search(r"STACK:(\d+)", usage)[1]),
        "hgmma": sum("HGMMA" in text for _, text in code),
        "hgmma_waits": sum("WARPGROUP.DEPBAR" in text for _, text in code),
        "tma_loads": sum("UTMALDG" in text for _, text in code),
        "hot_loops": len(hot),
        "loop_spills": max((sum(bool(re.search(r"\b(STL|LDL)", t)) for t in body) for body in hot), default=0),
    }


if __name__ == "__main__":
    json.dump({name: make() for name, make in CASES.items()}, sys.stdout)
