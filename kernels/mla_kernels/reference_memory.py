"""How much memory the float64 references take for what they hold at a time, without torch: plans need no more."""

TEMPORARY_BYTES = 2 * 2**30
"""What the temporaries of a reference stay near."""


def temporary_bytes(q_len: int, kv_len: int, num_q_heads: int, num_kv_heads: int, numbers_per_token: int) -> int:
    """Bytes that the temporaries of a request take at most, the results not among them.

    `numbers_per_token` is what a KV head's key and value have together; for the recompute form, which expands one KV
    head a query head, `qk_nope_head_dim + v_head_dim` for the expansion and the key's own width on top.
    """
    group = num_q_heads // num_kv_heads
    rows = min(q_len, queries_at_once(kv_len, group)) * group
    heads = min(num_kv_heads, heads_at_once(rows, kv_len, numbers_per_token))
    return heads * _head_bytes(rows, kv_len, numbers_per_token)


def _head_bytes(rows: int, kv_len: int, numbers_per_token: int) -> int:
    """Bytes of the temporaries of one KV head.

    Float64 copies of keys, values and queries, one of them with its source beside it, and
    three arrays of scores (the scores, these shifted, their exponentials) with the mask.
    """
    return numbers_per_token * (12 * kv_len + 8 * rows) + 25 * kv_len * rows


def heads_at_once(rows: int, kv_len: int, numbers_per_token: int) -> int:
    """KV heads whose temporaries fit TEMPORARY_BYTES; at least one."""
    return max(1, TEMPORARY_BYTES // max(1, _head_bytes(rows, kv_len, numbers_per_token)))


def queries_at_once(kv_len: int, group: int) -> int:
    """Queries of one head's group whose scores take a quarter of TEMPORARY_BYTES: there are three such arrays."""
    return max(1, TEMPORARY_BYTES // (32 * max(kv_len, 1) * group))
