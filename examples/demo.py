"""The whole story in a few minutes: keygen, package, trust, adapt, stylize, and a page to look at.

Runs the two programs exactly as a provider and a client would, each command
shown on the page with its output. Faces come from ``$MODIFY_DATA`` where that
has a set this script knows, else they are drawn. Everything is written below
one folder, configuration and trust store included.

    python examples/demo.py --out demo [--minutes 3]
"""

import argparse
import base64
import html
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

_MARKER = ".modify-demo"
_STYLES = ("style/paintings/128", "metfaces")
_PHOTOS = (("content/congress/128", "content/london/128"), ("ffhq", "ffhq"), ("celeba-hq", "celeba-hq"))
_SHOWN = 8
_TINY = tuple(
    word
    for change in ("resolution=32", "channel_max=16", "enc_max=16", "pyramid=16", "trunk=16", "w_dim=16", "z_dim=16")
    for word in ("--set", change)
)
_ONE_CORE = ("--threads", "1", "--precision", "fp32")


@dataclass(kw_only=True)
class Story:
    """Commands that were run, with what they printed."""

    folder: Path
    """Everything is written here."""
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    """Command line, output, seconds."""

    def run(self, program: str, *words: str) -> None:
        """Run one command in the folder; stop the demo if it fails."""
        line = shlex.join([program, *words])
        print(f"\n$ {line}", flush=True)
        environment = {
            **os.environ,
            "MODIFY_CONFIG": str(self.folder / "config"),
            "MODIFY_DATA_DIR": str(self.folder / "data"),
        }
        start, lines = time.monotonic(), []
        command = [str(Path(sys.executable).with_name(program)), *words]
        with subprocess.Popen(  # noqa: S603 - our own program beside this interpreter
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for text in process.stdout or ():
                print(text, end="", flush=True)
                lines.append(text)
        if process.returncode:
            raise SystemExit(process.returncode)
        self.steps.append((line, "".join(lines), time.monotonic() - start))


def main() -> int:
    """Run the demo and print the path of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument(
        "--tiny", action="store_true", help="networks of a few thousand weights, to test the demo itself"
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="training time of stage 1")
    options = parser.parse_args()
    folder = _fresh_folder(options.out.resolve())
    style, photos, new_photos = _sources(folder)
    story, start = Story(folder=folder), time.monotonic()
    story.run("style-provider", "keygen", "--name", "Studio", "--out", "keys", "--no-passphrase")
    seconds = round(60 * options.minutes)
    story.run(
        "style-provider", "package", "--dataset", style, "--key", "keys/studio.pem", "--out", "style.mdfy",
        "--name", "Demo", "--budget", f"{seconds}s", "--audit", "no" if options.tiny else "60s",
        "--accept-leakage", "a demonstration that stays on this machine", *(_TINY + _ONE_CORE if options.tiny else ()),
    )  # fmt: skip
    story.run("content-client", "trust", "add", "keys/studio.mdfykey", "--fingerprint", _fingerprint(folder))
    story.run("content-client", "verify", "style.mdfy")
    story.run(
        "content-client", "adapt", "--no-align", "--bundle", "style.mdfy", "--photos", photos, "--out", "photos.mdfa",
        "--budget", f"{max(2, seconds // 5)}s", *(_ONE_CORE if options.tiny else ()),
    )  # fmt: skip
    story.run(
        "content-client", "stylize", "--no-align", "--bundle", "style.mdfy", "--adapter", "photos.mdfa", *new_photos,
        "--styles", "4", "--seed", "1", "--out", "out",
    )  # fmt: skip
    page = folder / "index.html"
    page.write_text(_page(story, time.monotonic() - start), encoding="utf-8")
    print(f"\nlook at {page}")
    return 0


def _fresh_folder(folder: Path) -> Path:
    """Empty the folder of an earlier demo; refuse to touch any other."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).exists():
        raise SystemExit(
            f"demo: error: {folder} is not empty and not an earlier demo\ndemo: fix:   choose another --out"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARKER).touch()
    return folder


def _fingerprint(folder: Path) -> str:
    from protocol.provider import read_provider_key

    return read_provider_key(folder / "keys" / "studio.mdfykey").fingerprint


def _sources(folder: Path) -> tuple[str, str, list[str]]:
    """Return style images, photos to adapt to, and new photos to stylize."""
    root = Path(os.environ.get("MODIFY_DATA") or "/nonexistent")
    style = next((name for name in _STYLES if (root / name).is_dir()), None)
    photos = next((pair for pair in _PHOTOS if all((root / name).is_dir() for name in pair)), None)
    if style and photos:
        known = str(root / style) if "/" in style else style
        pictures = sorted(path for path in (root / photos[1]).rglob("*") if path.suffix in {".jpg", ".png"})
        step = max(1, len(pictures) // _SHOWN)
        return known, str(root / photos[0]), [str(path) for path in pictures[::step][:_SHOWN]]
    print("faces are drawn; set MODIFY_DATA to use real ones")
    _draw(folder / "photos", 64, seed=11)
    _draw(folder / "new-photos", _SHOWN, seed=12)
    return "synthetic", "photos", ["new-photos"]


def _draw(folder: Path, count: int, *, seed: int) -> None:
    from modify_fl.faces.decode import save_png
    from modify_fl.synthetic import draw_faces

    for index, face in enumerate(draw_faces("photo", count, 128, seed)):
        save_png(face, folder / f"face-{index:02d}.png")


def _image(path: Path, alt: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'


def _page(story: Story, seconds: float) -> str:
    """Return one self-contained HTML page: no script, no network."""
    samples = sorted((story.folder / "style.mdfy.run" / "samples").glob("*.png"))
    learnt = (
        _image(samples[-1], "style images above, their reconstructions below, then drawn styles") if samples else ""
    )
    sizes = {name: (story.folder / name).stat().st_size / 1e6 for name in ("style.mdfy", "photos.mdfa")}
    commands = "\n".join(
        f"<details><summary><code>$ {html.escape(line)}</code> <small>{took:.0f} s</small></summary>"
        f"<pre>{html.escape(text)}</pre></details>"
        for line, text, took in story.steps
    )
    parts = {
        "TITLE": "modify-fl: a demo",
        "TIME": f"{seconds / 60:.1f}",
        "SHEET": _image(story.folder / "out" / "contact-sheet.png", "one row per photo: the photo, then four styles"),
        "LEARNT": learnt,
        "COMMANDS": commands,
        "BUNDLE": f"{sizes['style.mdfy']:.1f}",
        "ADAPTER": f"{sizes['photos.mdfa']:.1f}",
    }
    page = _TEMPLATE
    for name, value in parts.items():
        page = page.replace(f"@{name}@", value)
    return page


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { width: 100%; max-width: 46rem; border-radius: 6px; }
table { border-collapse: collapse; } td, th { border: 1px solid #8886; padding: .3rem .7rem; text-align: left; }
pre { overflow-x: auto; background: #8882; padding: .7rem; border-radius: 6px; font-size: .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
</style></head><body>
<h1>@TITLE@</h1>
<p>Made in @TIME@ minutes on this computer, training included. A few minutes teach the look, not the detail:
give <code>style-provider package</code> a longer <code>--budget</code> for that.</p>
<h2>What the client gets</h2>
<p>Each row is a photo that was never trained on, then the same photo in four styles.</p>
<p>@SHEET@</p>
<h2>What the provider's model learnt</h2>
<p>Style images, their reconstructions, and styles drawn by the remapping network. This stays with the provider.</p>
<p>@LEARNT@</p>
<h2>Who holds what</h2>
<table><tr><th>file</th><th>MB</th><th>holds</th><th>goes to</th></tr>
<tr><td>style images</td><td></td><td>the collection</td><td>nobody</td></tr>
<tr><td>style.mdfy</td><td>@BUNDLE@</td><td>signed weights, no picture</td><td>clients</td></tr>
<tr><td>photos</td><td></td><td>faces</td><td>nobody</td></tr>
<tr><td>photos.mdfa</td><td>@ADAPTER@</td><td>a part of the encoder, adapted</td><td>nobody: local-only</td></tr>
</table>
<p>No differential privacy ran: weights can contain recognisable traces of the pictures they were trained on. What
attacks found of them stands in the bundle's privacy card (<code>content-client inspect style.mdfy</code>).</p>
<h2>What was typed</h2>
@COMMANDS@
</body></html>
"""


if __name__ == "__main__":
    raise SystemExit(main())
