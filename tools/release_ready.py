"""Sign the styles that come with the package, with a key that nobody keeps (modify_fl/ready).

    style-provider package --dataset faces/train/style/paintings --style-data public --audit standard \
        --out runs/paintings.mdfy ...
    style-provider package --dataset faces/train/style/engravings ... --out runs/engravings.mdfy
    python -m tools.release_ready runs/paintings.mdfy runs/engravings.mdfy --signed-by keys/studio.mdfykey

Each file is a finished bundle of ``package``, named as in ``STYLES``: it is verified
against the key that is named, and its weights, audit and figures go into a new
bundle whose texts stand in ``STYLES``. Kernels and matrices become float16, which
halves the file; how far that moves a painted face is measured, and written into
the README with digests, figures, sources and licences.

The signing key of the new bundles is made here, in memory, and is never written
to a disk: when this program ends it is gone, so nothing else can ever be signed
with it. For the same reason it cannot be rotated, and is valid for ten years.
"""

import argparse
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load, save

from modify_fl.base.export import stored
from modify_fl.bundle import load_style
from modify_fl.console import Console
from modify_fl.data import load_images, to_uint8
from modify_fl.errors import ConfigError
from modify_fl.federated.fab import FAB_SHA256
from modify_fl.ready import DEMO_KEY, HOME
from modify_fl.style import Style
from modify_fl.styles import seeded
from modify_fl.weights import abs_max
from protocol.container import WEIGHTS
from protocol.errors import Error
from protocol.manifest import BundleInfo, Federation, Licence, Manifest, StyleInfo, Usage
from protocol.provider import ProviderKey, issue_provider_key, read_provider_key, write_provider_key
from protocol.publish import write_bundle
from protocol.signing import PrivateKey, generate_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from tools.train_release import CREDITS

LARGEST = 15_000_000
"""Bytes that a shipped file may have."""

_LIFE = timedelta(days=3650)
_PROBED = 32
_PROVIDER = "modify-fl demo"
_USAGE = Usage(
    allowed=("trying this program", "demonstrations", "tests"),
    prohibited=("passing a picture off as a work of the time", "telling from a picture who somebody is"),
)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What the card of a shipped style says."""

    description: str
    source: str
    """Folder of its pictures, a key of ``CREDITS``."""


STYLES = {
    "paintings": Texts(
        description="oil portraits: dark grounds, warm light, visible paint",
        source="style/paintings",
    ),
    "engravings": Texts(
        description="engravings, lithographs and early photographs: grey and sepia, lines and grain",
        source="style/engravings",
    ),
}  # fmt: skip
"""The styles that come with the package, by name."""


@dataclass(frozen=True, kw_only=True)
class Released:
    """One shipped style, for the README."""

    name: str
    manifest: Manifest
    digest: str
    size: int
    """Bytes."""
    moved: float
    """Mean change of a painted face by float16, in grey levels of 255."""


def release(
    source: Path, signed_by: ProviderKey, *, key: PrivateKey, provider: ProviderKey, out: Path, now: datetime
) -> Released:
    """Sign a finished bundle anew, with its weights as float16.

    Args:
        source: The bundle of ``package``; its stem is a key of ``STYLES``.
        signed_by: Whose signature it must have.
        key: Signs the new one.
        provider: Its public half.
        out: Folder of the new one.
        now: When it is made, whole seconds.

    Raises:
        ConfigError: No shipped style is called so, the pictures are not public, or the file is too large.
        ProtocolError: The bundle does not verify.
    """
    name = source.stem
    if name not in STYLES:
        raise ConfigError(f"no style to ship is called {name}", fix=f"name files {', '.join(STYLES)}.mdfy")
    trust, path = TrustStore.of(signed_by), out / source.name
    with open_bundle(source, trust=trust, now=datetime.now(UTC)) as bundle:
        tensors = {n: load(bundle.read(n)) for n in bundle.members if n.endswith(WEIGHTS)}
        members = {n: bundle.read(n) for n in bundle.members if n.startswith("reports/")}
        before = Style(load_style(bundle, record=False))
        manifest = _manifest(bundle.manifest, name, provider, now)
    small = {file: {n: stored(value) for n, value in values.items()} for file, values in tensors.items()}
    members |= {file: save(dict(sorted(values.items()))) for file, values in small.items()}
    bounds = {file: abs_max(values) for file, values in small.items()}
    digest = write_bundle(
        path, manifest=manifest, members=members, abs_max=bounds, key=key, provider=provider, overwrite=True
    )
    if (size := path.stat().st_size) > LARGEST:
        raise ConfigError(f"{path.name} is too large to ship", expected=f"at most {LARGEST}", got=str(size))
    with open_bundle(path, trust=TrustStore.of(provider), now=now) as bundle:
        after, signed = Style(load_style(bundle, record=False)), bundle.manifest
    return Released(name=name, manifest=signed, digest=digest, size=size, moved=_moved(before, after))


def _manifest(old: Manifest, name: str, provider: ProviderKey, now: datetime) -> Manifest:
    """Return the manifest with the texts of the shipped style; figures and audit stay as they were measured."""
    data = old.privacy.training_data
    if data.classification != "public":
        raise ConfigError(f"{name} was made of {data.classification} pictures", fix="ship styles of public ones only")
    texts, (sources, licence) = STYLES[name], CREDITS[STYLES[name].source]
    return replace(
        old, provider=provider.info(), usage=_USAGE,
        bundle=BundleInfo(
            id=str(uuid.uuid4()), name=name, version=version("modify-fl"), sequence=1, created=now, not_before=now,
            expires=now + _LIFE,
        ),
        style=StyleInfo(name=name, description=texts.description, limits="64 px; faces cut like FFHQ"),
        licence=Licence(model="Apache-2.0", dataset=licence, attribution=sources),
        model=replace(old.model, precision="float16 kernels and matrices, the rest float32", weights=()),
        privacy=replace(old.privacy, training_data=replace(data, basis=licence)), files=(),
        federation=Federation(fab_sha256=(FAB_SHA256,)),
    )  # fmt: skip


@torch.no_grad()
def _moved(before: Style, after: Style) -> float:
    faces = load_images("synthetic", resolution=before.resolution, look="photo", limit=_PROBED).batch(range(_PROBED))
    old, new = (to_uint8(style.paint(faces, seeded((1, 2)))).astype(float) for style in (before, after))
    return float(abs(old - new).mean())


def readme(released: list[Released], provider: ProviderKey) -> str:
    """Return the card of all shipped styles and pictures as Markdown."""
    rows = "\n".join(
        f"| `{one.name}` | {one.manifest.style.description if one.manifest.style else ''} | {one.size / 1e6:.1f} "
        f"| {one.manifest.provenance.training.images_seen / 1000:.1f} kimg from "
        f"{one.manifest.provenance.training.init}; {_nets(one.manifest)} | {one.moved:.2f} | `{one.digest}` |"
        for one in released
    )
    sources = "\n".join(f"| `{one.name}` | {one.manifest.licence.attribution} | {one.manifest.licence.dataset} "
                        f"| {one.manifest.privacy.training_data.number_of_images} |" for one in released)  # fmt: skip
    figures = "\n".join(
        f"| `{one.name}` | {figure.name} | {figure.shown} |"
        for one in released
        for figure in (one.manifest.privacy.memorisation_audit.figures or ()
                       if one.manifest.privacy.memorisation_audit else ())
    )  # fmt: skip
    return _README.format(rows=rows, sources=sources, figures=figures, fingerprint=provider.fingerprint,
                          expires=f"{provider.expires:%Y-%m-%d}")  # fmt: skip


def _nets(manifest: Manifest) -> str:
    losses = manifest.provenance.training.losses
    return f"{losses.perceptual.name}, {losses.identity.name}"


_README = """# What comes with the package

Written by `tools/release_ready.py`; do not edit.

Styles to try the program with, signed by the provider *modify-fl demo*, key `{fingerprint}`, valid until {expires}.
The private half was made in memory when these files were signed and written nowhere: nothing else can be signed with
it. `content-client trust add --demo` accepts it; whoever gave you the program gave you this key too, so the signature
protects these files from later changes and says nothing else.

| style | | MB | training | float16 moves a painted face by | digest |
|---|---|---|---|---|---|
{rows}

All at 64 px, one core of a CPU, preset `quick-64`. Kernels and matrices are stored as float16; the figures below and
those of reconstruction were measured before that, and the mean change of a pixel is given in grey levels of 255.

| style | pictures | their licence | how many |
|---|---|---|---|
{sources}

Weights: Apache-2.0, as the package; name the sources above. None of the pictures is in this repository. The pictures
that the figures compare with were set aside by work before a style was trained; the base model has seen some on both
sides of that split.

What attacks found of the training pictures (attacks that were tried, not a bound; `content-client inspect NAME` shows
the whole card, the report is in the bundle):

| style | figure | found |
|---|---|---|
{figures}

`photos.zip` and `paintings.zip` are the data set `demo`: people who do not exist, drawn by `tools/draw_demo.py` with
the base model ([its card](../base/base-64.md)) and with `paintings`. They show nobody, and may be used under
Apache-2.0, as the package.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; an error is one sentence with its own exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", help="finished bundles of package")
    parser.add_argument("--signed-by", type=Path, required=True, help="the .mdfykey they were signed with")
    parser.add_argument("--out", type=Path, default=HOME)
    options = parser.parse_args(arguments)
    console, now = Console("release_ready", "release"), datetime.now(UTC).replace(microsecond=0)
    try:
        key = generate_key()
        provider = issue_provider_key(key, name=_PROVIDER, roles=("style",), not_before=now, expires=now + _LIFE)
        signed_by = read_provider_key(options.signed_by)
        released = [
            release(path, signed_by, key=key, provider=provider, out=options.out, now=now) for path in options.bundles
        ]
        write_provider_key(options.out / DEMO_KEY.name, provider, overwrite=True)
    except Error as error:
        return console.fail(error)
    (options.out / "README.md").write_text(readme(released, provider), encoding="utf-8")
    for one in released:
        console.note(f"{one.name}: {one.size / 1e6:.1f} MB, {one.digest}, moved by {one.moved:.2f} of 255")
    console.note(f"signed by {provider.fingerprint}, whose private half is gone with this process")
    return 0


if __name__ == "__main__":
    sys.exit(main())
