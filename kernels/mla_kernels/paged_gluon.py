"""Blocks of 64 tokens out of a paged cache, by TMA: what the Gluon MLA kernels share.

Pages hold multiples of 64 tokens, or 32, or 16; a block is copied in boxes of 64 tokens, or of a page.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import tma

BLOCK = 64
"""Tokens of a block."""

_BLOCK = gl.constexpr(BLOCK)


@gluon.jit
def _box_row(block_table, max_pages, b, last, token, kv_len, PAGE_SIZE: gl.constexpr):
    """Row of the cache of the box that starts at `token`; of the request's last box if it starts past the end."""
    BOX: gl.constexpr = min(_BLOCK, PAGE_SIZE)
    token = gl.maximum(gl.minimum(token, (kv_len - 1) // BOX * BOX), 0)
    pages = block_table + gl.cast(b, gl.int64) * max_pages
    return gl.load(pages + token // PAGE_SIZE, mask=b < last, other=0) * PAGE_SIZE + token % PAGE_SIZE


@gluon.jit
def block_rows(block_table, max_pages, b, last, block, kv_len, PAGE_SIZE: gl.constexpr):
    """Rows of the cache at which a block's four quarters lie, as far as `load_block` needs them. From request `last` on
    nothing is read."""
    at0 = _box_row(block_table, max_pages, b, last, block * _BLOCK, kv_len, PAGE_SIZE)
    at1 = at0
    at2 = at0
    at3 = at0
    if PAGE_SIZE == 32:
        at2 = _box_row(block_table, max_pages, b, last, block * _BLOCK + 32, kv_len, PAGE_SIZE)
    if PAGE_SIZE == 16:
        at1 = _box_row(block_table, max_pages, b, last, block * _BLOCK + 16, kv_len, PAGE_SIZE)
        at2 = _box_row(block_table, max_pages, b, last, block * _BLOCK + 32, kv_len, PAGE_SIZE)
        at3 = _box_row(block_table, max_pages, b, last, block * _BLOCK + 48, kv_len, PAGE_SIZE)
    return at0, at1, at2, at3


@gluon.jit
def load_block(
    tiles, at0, at1, at2, at3, target, stage, bar, STAGES: gl.constexpr, COL: gl.constexpr, COLS: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
):  # fmt: skip
    """Start copying columns COL to COL + COLS of a block into one stage of `target [STAGES, 64, COLS]`."""
    if PAGE_SIZE >= _BLOCK:
        tma.async_copy_global_to_shared(tiles, [at0, COL], bar, target.index(stage))
    else:
        BOXES: gl.constexpr = _BLOCK // PAGE_SIZE
        STRIPS: gl.constexpr = COLS // 64
        boxes = target._reinterpret(target.dtype, [STAGES * STRIPS * BOXES, PAGE_SIZE, 64], tiles.layout)
        for c in gl.static_range(STRIPS):
            box = (stage * STRIPS + c) * BOXES
            tma.async_copy_global_to_shared(tiles, [at0, COL + c * 64], bar, boxes.index(box))
            if BOXES == 4:
                tma.async_copy_global_to_shared(tiles, [at1, COL + c * 64], bar, boxes.index(box + 1))
            tma.async_copy_global_to_shared(tiles, [at2, COL + c * 64], bar, boxes.index(box + BOXES // 2))
            if BOXES == 4:
                tma.async_copy_global_to_shared(tiles, [at3, COL + c * 64], bar, boxes.index(box + 3))
