"""How much memory a device has left."""

from pathlib import Path


def free_memory_bytes(device: str) -> int | None:
    """Free bytes of the current CUDA device, or what the host can still give; None where the system does not tell."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        free: int = torch.cuda.mem_get_info()[0]
        return free
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
