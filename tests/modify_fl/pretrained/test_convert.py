"""Arrays of each source become tensors under the names that the library itself has."""

import pickle  # noqa: TID251 - sources of this form have to be made
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1

from modify_fl.errors import DataError
from modify_fl.pretrained import convert as module
from modify_fl.pretrained.catalogue import NETWORKS
from modify_fl.pretrained.convert import convert

_BRANCHES = {
    "Repeat/block35_{}": (5, ["0/Conv2d_1x1", "1/Conv2d_0a_1x1", "1/Conv2d_0b_3x3",
                              "2/Conv2d_0a_1x1", "2/Conv2d_0b_3x3", "2/Conv2d_0c_3x3"]),
    "Repeat_1/block17_{}": (10, ["0/Conv2d_1x1", "1/Conv2d_0a_1x1", "1/Conv2d_0b_1x7", "1/Conv2d_0c_7x1"]),
    "Repeat_2/block8_{}": (5, ["0/Conv2d_1x1", "1/Conv2d_0a_1x1", "1/Conv2d_0b_1x3", "1/Conv2d_0c_3x1"]),
    "Block8": (1, ["0/Conv2d_1x1", "1/Conv2d_0a_1x1", "1/Conv2d_0b_1x3", "1/Conv2d_0c_3x1"]),
    "Mixed_6a": (1, ["0/Conv2d_1a_3x3", "1/Conv2d_0a_1x1", "1/Conv2d_0b_3x3", "1/Conv2d_1a_3x3"]),
    "Mixed_7a": (1, ["0/Conv2d_0a_1x1", "0/Conv2d_1a_3x3", "1/Conv2d_0a_1x1", "1/Conv2d_1a_3x3",
                     "2/Conv2d_0a_1x1", "2/Conv2d_0b_3x3", "2/Conv2d_1a_3x3"]),
}  # fmt: skip
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "Conv2d_4b_3x3")


def _facenet_layers() -> Iterator[str]:
    yield from _STEM
    for block, (count, layers) in _BRANCHES.items():
        yield from (f"{block.format(i + 1)}/Branch_{layer}" for i in range(count) for layer in layers)


def _facenet_arrays() -> dict[str, np.ndarray]:
    """Return one number for each layer of the graph, a different one each."""
    one = iter(np.arange(1, 1000, dtype=np.float32))
    arrays = {}
    for layer in _facenet_layers():
        arrays[f"InceptionResnetV1/{layer}/weights"] = np.full((1, 1, 1, 1), next(one))
        arrays[f"InceptionResnetV1/{layer}/Conv2D_bn_offset"] = np.full(1, next(one))
    for block in (name for name in _BRANCHES if "lock" in name):
        for i in range(_BRANCHES[block][0]):
            place = f"InceptionResnetV1/{block.format(i + 1)}/Conv2d_1x1"
            arrays |= {f"{place}/weights": np.full((1, 1, 1, 1), next(one)), f"{place}/biases": np.full(1, next(one))}
    last = "InceptionResnetV1/Bottleneck/"
    arrays[f"{last}weights"] = np.arange(6, dtype=np.float32).reshape(3, 2)
    for name in ("beta", "moving_mean", "moving_variance"):
        arrays[f"{last}BatchNorm/{name}"] = np.full(2, next(one))
    return arrays


def test_facenet_gets_every_name_of_its_library() -> None:
    with torch.device("meta"):
        names = InceptionResnetV1().state_dict().keys()
    state = module._facenet(_facenet_arrays())
    assert state.keys() == {name for name in names if not name.startswith("logits.")}
    assert state["last_linear.weight"].tolist() == [[0, 2, 4], [1, 3, 5]]  # [I, O] -> [O, I]


def test_a_folded_norm_adds_its_offset_and_does_nothing_else() -> None:
    state = module._facenet(_facenet_arrays())
    norm = torch.nn.BatchNorm2d(1, eps=0.001).eval()
    norm.load_state_dict({k.rpartition(".")[2]: v for k, v in state.items() if k.startswith("mixed_6a.branch0.bn.")})
    x = torch.linspace(-3, 3, 7).reshape(1, 1, 1, 7)
    offset = state["mixed_6a.branch0.bn.bias"].item()
    assert torch.allclose(norm(x), x + offset, rtol=1e-6)


def test_branches_keep_their_order() -> None:
    arrays = _facenet_arrays()
    state = module._facenet(arrays)
    for theirs, ours in {
        "Mixed_7a/Branch_2/Conv2d_1a_3x3": "mixed_7a.branch2.2",
        "Repeat/block35_5/Branch_0/Conv2d_1x1": "repeat_1.4.branch0",
        "Repeat_1/block17_10/Branch_1/Conv2d_0c_7x1": "repeat_2.9.branch1.2", "Conv2d_4b_3x3": "conv2d_4b",
    }.items():  # fmt: skip
        assert state[f"{ours}.conv.weight"].item() == arrays[f"InceptionResnetV1/{theirs}/weights"].item()


def test_alexnet_turns_its_axes_and_leaves_its_classifier_nan() -> None:
    kernel = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)  # [k, k, I, O]
    layers = {f"Conv_{i}": {"kernel": kernel, "bias": np.zeros(4, np.float32)} for i in range(5)}
    state = convert(NETWORKS["lpips-alex"], pickle.dumps({"AlexNet_0": layers}, protocol=4))
    assert state["features.10.weight"].shape == (4, 3, 1, 2)
    assert state["features.10.weight"][1, 2, 0, 1] == kernel[0, 1, 2, 1]
    assert state["classifier.6.weight"].shape == (1000, 4096)
    assert state["classifier.6.weight"].isnan().all()


def test_inception_gets_every_name_of_its_library() -> None:
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs torch-fidelity")
    with torch.device("meta"):
        blocks = {
            "Mixed_5b": fidelity.InceptionA(8, 8), "Mixed_6a": fidelity.InceptionB(8),
            "Mixed_6b": fidelity.InceptionC(8, 8), "Mixed_7a": fidelity.InceptionD(8),
            "Mixed_7b": fidelity.InceptionE_1(8), "Mixed_7c": fidelity.InceptionE_2(8),
        }  # fmt: skip
    arrays = {
        f"{i}.{part}": np.zeros((1, 1, 1, 1) if part == "weight" else 1, np.float32)
        for i in range(94)
        for part in ("weight", "beta", "mean", "var")
    }
    names = module._inception(arrays).keys()
    assert len(names) == 94 * 6
    for block, net in blocks.items():
        assert {name for name in names if name.startswith(f"{block}.")} == {f"{block}.{n}" for n in net.state_dict()}


def test_another_network_is_refused() -> None:
    with pytest.raises(DataError, match="the source of lpips-alex holds another network"):
        convert(NETWORKS["lpips-alex"], pickle.dumps({"VGG_0": {"a": np.zeros(1, np.float32)}}, protocol=4))
    with pytest.raises(DataError, match="the source of facenet-vggface2 holds another network"):
        convert(NETWORKS["facenet-vggface2"], b"")
