"""Attention kernels over paged caches, decode and prefill: one file a kernel, named `<variant>_<phase>_<backend>`.

- `mla_decode`: Multi-head Latent Attention in its absorbed form, by whichever of the next three is the fastest for
  the shape
- `mla_decode_gluon_few_rows`, `mla_decode_gluon`, `mla_decode_triton`: that on Hopper, for few rows and for many, and
  for the rest; `mla_decode_torch`: the same in plain torch
- `mla_recompute_decode_torch`: MLA that expands K and V from the latent cache at every step; `mla_recompute_prefill`:
  the same in prefill, then `grouped_prefill`
- `grouped_decode_triton`, `grouped_decode_torch`: MHA, GQA, MQA, and MLA's expanded form
- `grouped_prefill`: prefill of the same, packed and causal, by one of the next two; `grouped_prefill_gluon`: on Hopper;
  `grouped_prefill_triton`: the rest
- `mla_prefill`: prefill of absorbed MLA, by one of the next two; `mla_prefill_gluon`: on Hopper;
  `mla_prefill_triton`: the rest
- `mla_prefill_torch`, `grouped_prefill_torch`: prefill of absorbed MLA and of grouped attention in plain torch
- `reference`: float64 references of all, for checking
- `mla_triton_tiles`: what the Triton kernels of absorbed MLA do with rows and the tokens that they see
- `online_softmax`: what the Triton kernels do with one block of the cache
- `gluon_sm90`, `packed_gluon`: what the Gluon kernels share; how those of prefill find their rows
- `paged_gluon`, `mla_gluon_bind`: how the Gluon kernels of MLA read pages, and are bound
- `split_kv`, `split_kv_gluon`: how the Triton and Gluon kernels split the cached tokens and merge the parts
- `paged_torch`: what the torch kernels share: where the tokens of a request lie, and the copy of them
- `mla_layer_torch`, `grouped_layer_torch`, `layer_torch`: the parts of a layer around the core
- `layer`: a whole layer of them around a core kernel; `reference_layer`: float64 references of what is around it
- `layer_parts`: what those parts cost, from a layer's dimensions; `rope`: rotary embedding
- `launch`: the object that every `bind` returns

Nothing is imported here, so that the torch files work where triton is not installed. kernels/README.md has the maths
and the tensor contract.
"""
