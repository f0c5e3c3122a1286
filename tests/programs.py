"""Runs the two programs inside the test process, as a user would type them.

Networks are tiny (32 pixels, a few thousand weights), so a whole story takes seconds.
"""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modify_fl.console import run_program

TINY = tuple(
    word
    for change in (
        "resolution=32", "w_dim=16", "z_dim=16", "channel_base=256", "channel_max=16", "enc_base=256", "enc_max=16",
        "pyramid=16", "trunk=16", "remap_width=16", "encapsulation.batch=4",
    )
    for word in ("--set", change)
)  # fmt: skip
"""Options that make ``package`` train tiny networks."""

PACKAGE = (*TINY, "--audit", "no")
"""Options that make ``package`` train tiny networks and attack nothing: an audit has tests of its own."""

QUICK = ("--threads", "1", "--precision", "fp32")
"""Options that keep a test on one core, without a probe."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a program left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The envelope of ``--json``: standard output must be one object and nothing else."""
        return json.loads(self.out)


def run(program: str, *words: str | Path, cwd: Path) -> Result:
    """Run a program in ``cwd`` and return its exit code and output."""
    if program == "style-provider":
        from style_provider.cli.app import app
    else:
        from content_client.cli.app import app
    out, err, argv, texts = io.StringIO(), io.StringIO(), sys.argv, [str(word) for word in words]
    sys.argv = [program, *texts]
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_program(app, program, texts)
    finally:
        sys.argv = argv
    return Result(code=code, out=out.getvalue(), err=err.getvalue())


def provider(*words: str | Path, cwd: Path) -> Result:
    """Run ``style-provider``."""
    return run("style-provider", *words, cwd=cwd)


def client(*words: str | Path, cwd: Path) -> Result:
    """Run ``content-client``."""
    return run("content-client", *words, cwd=cwd)


def draw_photos(folder: Path, count: int, *, side: int = 40, first: int = 0) -> Path:
    """Write ``count`` drawn photos below ``folder`` and return it; those from number ``first`` on."""
    from modify_fl.faces.decode import save_png
    from modify_fl.synthetic import draw_faces

    for index, face in enumerate(draw_faces("photo", first + count, side, 7)[first:], start=first):
        save_png(face, folder / f"p{index}.png")
    return folder
