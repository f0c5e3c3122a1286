"""Which styles a command line asks for (M-25, M-26).

One way of choosing at a time: numbers, a way between two of them, a mixture of
two, or pictures that the user owns.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from modify_fl.errors import ConfigError, DataError
from modify_fl.faces.decode import decode_image
from modify_fl.photo import PhotoReader
from modify_fl.styles import Mixed, Reference, StyleChoice, between, seeded

__all__ = ["choose_styles"]

_STEPS = 5
_REFERENCE_SIDE = 256
_NAME_LONGEST = 40


def choose_styles(
    *, count: int | None, seed: int, seeds: str | None, interpolate: str | None, mix: str | None,
    references: Sequence[Path], align: bool,
) -> tuple[StyleChoice, ...]:  # fmt: skip
    """Return the styles of a command.

    Args:
        count: How many; of numbers, or on the way between two.
        seed: The first number where nothing else is named.
        seeds: Numbers, as in ``3,7,12``.
        interpolate: Both ends of a way, as in ``3:7``.
        mix: Coarse and fine style, as in ``3:7``, or ``3:7:2`` with the rows of the first.
        references: Pictures of the user's own.
        align: Whether the face of a reference is found and aligned.

    Raises:
        ConfigError: Two ways are named, one cannot be read, or a style is named twice.
        DataError: A reference cannot be read, or holds no face.
    """
    named = {"--style-seed": seeds, "--interpolate": interpolate, "--mix": mix, "--reference": references}
    given = [option for option, value in named.items() if value]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} cannot be used together", fix="choose one of them")
    if count is not None and given and given != ["--interpolate"]:
        raise ConfigError(f"--styles and {given[0]} cannot be used together", fix="leave out --styles")
    chosen: Sequence[StyleChoice] = seeded(range(seed, seed + (count or 1)))
    if seeds:
        chosen = seeded(_numbers("--style-seed", seeds, ",", "3,7,12"))
    elif interpolate:
        ends = _numbers("--interpolate", interpolate, ":", "3:7", counts=(2,))
        chosen = between(ends[0], ends[1], _STEPS if count is None else count)
    elif mix:
        chosen = [Mixed(*_numbers("--mix", mix, ":", "3:7", counts=(2, 3)))]
    elif references:
        chosen = [_reference(path, align=align) for path in references]
    return _distinct(chosen)


def _numbers(option: str, text: str, sign: str, example: str, counts: tuple[int, ...] = ()) -> list[int]:
    parts = [part.strip() for part in text.split(sign)]
    if not all(part.isdecimal() for part in parts) or (counts and len(parts) not in counts):
        raise ConfigError(f"cannot read {option} {text}", fix=f"write it like {option} {example}")
    return [int(part) for part in parts]


def _reference(path: Path, *, align: bool) -> Reference:
    """Return the style of a picture: of its largest face, or of its central square where nothing is aligned."""
    if not path.is_file():
        raise DataError(f"there is no reference {path}", fix="check the path")
    name = "".join(c if c.isalnum() else "-" for c in path.stem)[:_NAME_LONGEST]
    if not align:
        return Reference(name, decode_image(path))
    reader = PhotoReader(resolution=_REFERENCE_SIDE, faces="largest")
    return Reference(name, reader.read(path, name=path.name).crops[0])


def _distinct(styles: Sequence[StyleChoice]) -> tuple[StyleChoice, ...]:
    twice = [mark for mark, number in Counter(style.mark for style in styles).items() if number > 1]
    if twice:
        raise ConfigError(f"the style {twice[0]} is asked for twice", fix="name each style once")
    return tuple(styles)
