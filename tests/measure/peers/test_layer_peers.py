"""Peers as the cores of whole layers, on stand-ins for their packages: they bind as they do by themselves."""

import pytest

from tests.measure.peers import test_grouped_peers, test_mla_peers
from tests.measure.peers.conftest import Install, measure, small_case

LAYER: dict[str, int | str] = {"scope": "layer", "hidden_size": 128, "q_lora_rank": 64}


@pytest.mark.parametrize("form", ["absorbed", "premultiplied"])
@pytest.mark.parametrize("name", test_mla_peers.INSTALLED)
def test_peers_of_mla_are_cores_of_right_layers(install: Install, name: str, form: str) -> None:
    install(*test_mla_peers.INSTALLED[name])
    record = measure(name, **LAYER, form=form)
    assert (record.status, record.reason) == ("ok", "")
    assert "package" in record.kernel_config
    assert [part.name for part in record.parts] == [part.name for part in small_case(**LAYER, form=form).parts]


@pytest.mark.usefixtures("any_sdpa_backend")
@pytest.mark.parametrize("name", test_grouped_peers.INSTALLED)
def test_peers_of_grouped_attention_are_cores_of_right_layers(install: Install, name: str) -> None:
    install(*test_grouped_peers.INSTALLED[name])
    record = measure(name, **LAYER, variant="gqa", num_kv_heads=2)
    assert (record.status, record.reason) == ("ok", "")
    assert [part.name for part in record.parts] == ["qkv", "cache_write", "core", "output"]


def test_a_peer_refuses_a_layer_that_it_refuses_by_itself(install: Install) -> None:
    install(*test_mla_peers.INSTALLED["mla_decode_flash_mla"])
    record = measure("mla_decode_flash_mla", **LAYER, page_size=16)
    assert record.status == "unsupported"
    assert "FlashMLA takes page_size 64, not 16" in record.reason
