"""Updates of low rank: exact at the start, merged without loss, the same for all clients (M-38)."""

import copy

import torch
from basekit import TINY_NETWORK
from stylekit import bare_style
from torch import nn

from modify_fl.networks.encoder import fold_gains
from modify_fl.networks.lora import LORA_RANK, LoraLinear, add_lora, merge_lora

DIGEST = "ab" * 32


def folded() -> nn.Module:
    encoder = copy.deepcopy(bare_style(TINY_NETWORK).model.encoder)
    fold_gains(encoder)
    return encoder


def faces(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_at_the_start_the_encoder_is_the_same_to_the_last_bit() -> None:
    encoder, plain = folded(), folded()
    add_lora(encoder, DIGEST)
    assert torch.equal(encoder(faces(2)), plain(faces(2)))


def test_only_b_is_trained_and_every_linear_layer_has_one() -> None:
    encoder = folded()
    linear = [m for m in encoder.modules() if isinstance(m, nn.Linear)]
    add_lora(encoder, DIGEST)
    trained = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    assert len(trained) == len(linear)
    assert all(name.endswith(".up.weight") and p.shape[1] == LORA_RANK for name, p in trained.items())


def test_all_clients_of_a_bundle_share_a() -> None:
    one, two, other = folded(), folded(), folded()
    add_lora(one, DIGEST)
    add_lora(two, DIGEST)
    add_lora(other, "cd" * 32)
    a, b, c = ({n: p for n, p in e.named_parameters() if ".down." in n} for e in (one, two, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a)
    assert len({float(value[0, 0]) for value in a.values()}) == len(a)  # no two layers share one


def test_merging_changes_nothing_but_rounding_and_names() -> None:
    encoder, names = folded(), set(folded().state_dict())
    add_lora(encoder, DIGEST)
    for layer in encoder.modules():
        if isinstance(layer, LoraLinear):
            layer.up.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    before = encoder(faces(3))
    merge_lora(encoder)
    assert set(encoder.state_dict()) == names
    torch.testing.assert_close(encoder(faces(3)), before, rtol=1e-4, atol=1e-4)
