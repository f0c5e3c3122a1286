"""Networks into bundles and back (B-16 to B-18, B-25 steps 13 and 14, M-39).

The only way from a ``VerifiedBundle`` to networks, and the only writer of style
bundles and adapters. Architectures are named, never shipped: the layers are
built by this package from a bounded configuration (P-6).

Modules, from the bottom: ``layout`` (which networks and tensors a style is made
of), ``selftest`` (pictures that need no photo), ``manifests`` (what a bundle says
about itself), then ``packing`` and ``loading``, which do not know each other. Their
public names are here.
"""

from modify_fl.bundle.layout import ARCHITECTURE
from modify_fl.bundle.loading import load_adapter, load_style
from modify_fl.bundle.manifests import LOCAL_ONLY, Release, Shared, image_band
from modify_fl.bundle.packing import write_adapter, write_style_bundle

__all__ = [
    "ARCHITECTURE",
    "LOCAL_ONLY",
    "Release",
    "Shared",
    "image_band",
    "load_adapter",
    "load_style",
    "write_adapter",
    "write_style_bundle",
]
