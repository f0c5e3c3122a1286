"""Draw people who do not exist, with a base model that ships with the package (ADR 7).

    python tools/draw_people.py people/ --count 12 --seed 1

Every file is a draw from the moments of the base's codes, decoded: nobody's
photo, so it may be shown, shipped and stylized in examples.
"""

import argparse
import sys
from pathlib import Path

from modify_fl.base.card import find_base
from modify_fl.base.start import load_base
from modify_fl.config import preset
from modify_fl.console import Console
from modify_fl.errors import ConfigError, ModifyError
from modify_fl.faces.decode import save_png
from modify_fl.networks.discriminator import build_discriminator
from modify_fl.networks.model import StyleModel


def draw(folder: Path, *, count: int, seed: int, name: str) -> list[Path]:
    """Write ``person-000.png`` and so on, at the preset's resolution.

    Args:
        folder: Made if need be.
        count: How many, at least 1.
        seed: Of the draws; the same seed gives the same people.
        name: Preset whose base draws.

    Raises:
        ConfigError: No base fits the preset, or ``count`` is below 1.
    """
    network = preset(name).network
    card = find_base(network)
    if card is None or count < 1:
        raise ConfigError(f"cannot draw {count} people with {name}", fix="ask for one or more, of a preset with a base")
    model, critic = StyleModel.build(network, 0).eval(), build_discriminator(network, 0)
    start = load_base(card, network)
    start.apply(model, critic)
    pictures = start.people(model.generator, count, seed)
    if pictures is None:
        raise ConfigError(f"{card.name} draws no people", fix="export the base again")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"person-{index:03d}.png" for index in range(count)]
    for path, picture in zip(paths, pictures, strict=True):
        save_png(picture.permute(1, 2, 0).numpy(), path)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Run the command; an error is one sentence with its own exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--preset", default="quick-64")
    options = parser.parse_args(arguments)
    console = Console("draw_people", "draw")
    try:
        paths = draw(options.folder, count=options.count, seed=options.seed, name=options.preset)
    except ModifyError as error:
        return console.fail(error)
    console.note(f"{len(paths)} people in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
