"""mlabench measures what an attention mechanism costs: MLA against MHA, GQA and MQA.

The road runs one way: `cases` (what is measured), `measure` (how), `records` (what came out), then
`verdict` and `report`, which read the records alone. `machine` says on what it all ran.
"""

__version__ = "0.1.0"
