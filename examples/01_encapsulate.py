"""Stage 1 in Python: a style becomes one signed file (about half a minute on one core).

    python examples/01_encapsulate.py runs/example

The networks are tiny and the pictures are drawn by the package, so the result
shows how things fit together, not how good they can get. Steps 02 and 04 use
the folder that this one makes.
"""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modify_fl.bundle import Release, write_style_bundle
from modify_fl.config import Budget, NetworkConfig, Runtime, preset
from modify_fl.data import load_images
from modify_fl.events import TrainingEvent
from modify_fl.perceptual import PerceptualNets
from modify_fl.training.encapsulation import encapsulate
from protocol.provider import issue_provider_key, write_provider_key
from protocol.signing import generate_key, save_private_key


def show(event: TrainingEvent) -> None:
    """Print what the run reports."""
    if event.kind == "tick":
        print(f"  step {event.step}: L_r {event.values['r']:.3f}" if "r" in event.values else f"  step {event.step}")
    elif event.message:
        print(f"  {event.message}")


def main(folder: Path) -> None:
    """Train, make a key, sign."""
    folder.mkdir(parents=True, exist_ok=True)
    small = NetworkConfig(
        resolution=32, w_dim=32, z_dim=32, channel_base=512, channel_max=32, enc_base=512, enc_max=32,
        pyramid=32, trunk=32, remap_width=32,
    )  # fmt: skip
    settings = replace(preset("quick-64"), name="example", network=small)
    paintings = load_images("synthetic", resolution=small.resolution, look="painting", limit=64)
    result = encapsulate(
        paintings, preset=settings, budget=Budget.parse("60steps"), seed=0, nets=PerceptualNets(),
        runtime=Runtime(threads=1, precision="fp32"), folder=folder / "run", emit=show, fresh=True,
    )  # fmt: skip

    key, now = generate_key(), datetime.now(UTC).replace(microsecond=0)
    provider = issue_provider_key(
        key, name="Example studio", roles=("style",), not_before=now, expires=now + timedelta(days=730)
    )
    save_private_key(folder / "studio.pem", key, None, overwrite=True)
    write_provider_key(folder / "studio.mdfykey", provider, overwrite=True)
    release = Release(
        name="drawn paintings", description="faces drawn by a program", images=len(paintings),
        dataset_licence="Apache-2.0", style_data="public",
    )  # fmt: skip
    digest = write_style_bundle(
        folder / "style.mdfy", result, release=release, key=key, provider=provider, overwrite=True
    )
    print(f"{folder / 'style.mdfy'} is signed by {provider.fingerprint}")
    print(f"its payload digest is {digest}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
