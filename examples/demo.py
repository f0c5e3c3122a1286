"""The whole story in a few minutes, ending in a page to look at.

A verified style that came with the package paints faces first. Then a provider
makes a style of its own, a client trusts, adapts and paints, and three sites adapt
one encoder together under differential privacy. The two programs
run exactly as a provider and a client would type them; every command is shown on
the page with its output. All faces are those of the data set ``demo``: nobody's.
Everything is written below one folder, configuration and trust store included.

    python examples/demo.py --out demo [--minutes 2]
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
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

_MARKER = ".modify-demo"
_NEW, _ADAPT = 8, 64
_SITES, _OF_SITE = ("north", "east", "south"), 56
_TINY = tuple(
    word
    for change in ("resolution=32", "channel_max=16", "enc_max=16", "pyramid=16", "trunk=16", "w_dim=16", "z_dim=16")
    for word in ("--set", change)
)
_ONE_CORE = ("--threads", "1", "--precision", "fp32")
_FILES = (
    ("paintings, engravings", "modify_fl/ready", "signed weights, no picture", "everybody: they came with the package"),
    ("style images", "", "the collection", "nobody"),
    ("style.mdfy", "style.mdfy", "signed weights, no picture", "clients"),
    ("photos", "", "faces", "nobody"),
    ("photos.mdfa", "photos.mdfa", "a part of the encoder, adapted", "nobody: local-only"),
    ("updates of the sites", "", "clipped, noisy sums", "the coordinator"),
    ("together.mdfa", "together.mdfa", "what three sites learnt, with its claim", "whoever the sites like"),
    ("ledgers of the sites", "", "what was spent", "nobody"),
)


@dataclass(kw_only=True)
class Story:
    """Commands that were run, with what they printed, and what there is to see."""

    folder: Path
    """Everything is written here."""
    start: float = field(default_factory=time.monotonic)
    """When it began."""
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    """Command line, output, seconds."""
    chapters: list[str] = field(default_factory=list)
    """HTML, in order."""

    def run(self, program: str, *words: str) -> str:
        """Run one command in the folder and return what it printed; stop the demo if it fails."""
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
        return "".join(lines)

    def tell(self, title: str, text: str, *parts: str) -> None:
        """Add a chapter to the page."""
        self.chapters.append(f"<h2>{html.escape(title)}</h2>\n<p>{text}</p>\n" + "\n".join(parts))

    def picture(self, path: str, words: str) -> str:
        """Return a picture as part of the page."""
        data = base64.b64encode((self.folder / path).read_bytes()).decode("ascii")
        return (
            f'<figure><img src="data:image/png;base64,{data}" alt="{words}"><figcaption>{words}</figcaption></figure>'
        )

    def write(self) -> Path:
        """Write the page as far as the story went: self-contained, no script, no network."""
        commands = "\n".join(
            f"<details><summary><code>$ {html.escape(line)}</code> <small>{took:.0f} s</small></summary>"
            f"<pre>{html.escape(text)}</pre></details>"
            for line, text, took in self.steps
        )
        files = "\n".join(
            f"<tr><td>{name}</td><td>{_megabytes(self.folder, path)}</td><td>{holds}</td><td>{goes}</td></tr>"
            for name, path, holds, goes in _FILES
        )
        minutes, seconds = divmod(round(time.monotonic() - self.start), 60)
        text = Template(Path(__file__).with_name("demo.html").read_text(encoding="utf-8")).substitute(
            time=f"{minutes} min {seconds} s", chapters="\n".join(self.chapters), commands=commands, files=files
        )
        page = self.folder / "index.html"
        page.write_text(text, encoding="utf-8")
        return page


def main() -> int:
    """Run the demo and print the path of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument(
        "--tiny", action="store_true", help="networks of a few thousand weights, to test the demo itself"
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="training time of stage 1")
    options = parser.parse_args()
    story = Story(folder=_fresh_folder(options.out.resolve()))
    _unpack(story.folder)
    ready_styles(story)
    print(f"\nfirst pictures: {story.write()}\nnext: a style of your own, which takes some minutes", flush=True)
    own_style(story, seconds=round(60 * options.minutes), small=_TINY + _ONE_CORE if options.tiny else ())
    federation(story, small=_ONE_CORE if options.tiny else ())
    print(f"\nlook at {story.write()}")
    return 0


def ready_styles(story: Story) -> None:
    """A client accepts the demo key, checks a style that came along, and paints with it."""
    story.run("content-client", "trust", "add", "--demo")
    story.run("content-client", "verify", "paintings")
    card = story.run("content-client", "inspect", "paintings")
    sheets = []
    for name in ("paintings", "engravings"):
        story.run(
            "content-client", "stylize", "--no-align", "--bundle", name, "new-photos", "--style-seed", "5,66,121,152",
            "--out", f"out-{name}",
        )  # fmt: skip
        sheets.append(story.picture(f"out-{name}/contact-sheet.png", f"{name}: a photo, then four styles of it"))
    story.tell(
        "Styles that came with the package", "Signed, verified before anything was loaded, and used without training.",
        '<div class="pair">', *sheets, "</div>",
        f"<details><summary>The card of <code>paintings</code>, as it is signed</summary><pre>{html.escape(card)}</pre>"
        "</details>",
    )  # fmt: skip


def own_style(story: Story, *, seconds: int, small: tuple[str, ...]) -> None:
    """A provider makes a style; a client trusts it, adapts to photos, and paints others."""
    story.run("style-provider", "keygen", "--name", "Studio", "--out", "keys", "--no-passphrase")
    story.run(
        "style-provider", "package", "--dataset", "demo", "--key", "keys/studio.pem", "--out", "style.mdfy",
        "--name", "My style", "--budget", f"{seconds}s", "--audit", "no" if small else "30s", *small,
    )  # fmt: skip
    story.run("content-client", "trust", "add", "keys/studio.mdfykey", "--fingerprint", _fingerprint(story.folder))
    story.run("content-client", "verify", "style.mdfy")
    story.run(
        "content-client", "adapt", "--no-align", "--bundle", "style.mdfy", "--photos", "photos", "--out", "photos.mdfa",
        "--budget", f"{max(2, seconds // 4)}s", *(_ONE_CORE if small else ()),
    )  # fmt: skip
    story.run(
        "content-client", "stylize", "--no-align", "--bundle", "style.mdfy", "--adapter", "photos.mdfa", "new-photos",
        "--styles", "4", "--seed", "1", "--out", "out",
    )  # fmt: skip
    samples = max((story.folder / "style.mdfy.run" / "samples").glob("*.png"))
    story.tell(
        "A style of your own",
        f"Trained for {seconds / 60:g} minutes, a look at how things go together. Give <code>style-provider "
        "package</code> pictures of yours and a longer <code>--budget</code> for more. No differential privacy ran: "
        "weights can contain recognisable traces of what they were trained on.",
        '<div class="pair">', story.picture("out/contact-sheet.png", "a photo never trained on, then four styles"),
        story.picture(f"style.mdfy.run/samples/{samples.name}", "what stays with the provider: style images, their "
                      "reconstructions, drawn styles"),
        "</div>",
    )  # fmt: skip


def federation(story: Story, *, small: tuple[str, ...]) -> None:
    """Three sites adapt one encoder in a few noisy steps, each charged to its own ledger."""
    for site in _SITES:
        story.run("content-client", "privacy", "init", "--photos", site, "--epsilon", "8", "--delta", "1e-5")
    folders = [word for site in _SITES for word in ("--site", site)]
    story.run(
        "content-client", "federate", "simulate", "style.mdfy", *folders, "--no-align", "--rounds", "3",
        "--local-steps", "1", "--privacy", "dp", "--n-public", "50", "--batch", "8", "--accept-low-utility",
        "--out", "together.mdfa", *small,
    )  # fmt: skip
    ledger = story.run("content-client", "privacy", "status", "--photos", _SITES[0])
    claim = story.run("content-client", "privacy", "statement", "--photos", _SITES[0])
    story.tell(
        "Three sites together, and what it cost",
        f"Three rounds of one noisy step over {_OF_SITE} photos a site, in one process instead of over a network. "
        "Every step was charged to the site's ledger before it ran. <b>No use is claimed:</b> so few photos and steps "
        "pay for noise, and the program says so. The ledger of one site, and its claim:",
        f"<pre>{html.escape(ledger)}</pre>", f"<pre>{html.escape(claim)}</pre>",
    )  # fmt: skip


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


def _unpack(folder: Path) -> None:
    """Write faces of the data set demo as the photos of a client."""
    from modify_fl.ready import demo_pictures

    with zipfile.ZipFile(demo_pictures("photo")) as archive:
        names = sorted(archive.namelist())
        parts = {"new-photos": _NEW, "photos": _ADAPT} | dict.fromkeys(_SITES, _OF_SITE)
        for part, count in parts.items():
            archive.extractall(folder / part, names[:count])
            del names[:count]


def _fingerprint(folder: Path) -> str:
    from protocol.provider import read_provider_key

    return read_provider_key(folder / "keys" / "studio.mdfykey").fingerprint


def _megabytes(folder: Path, path: str) -> str:
    if path == "modify_fl/ready":
        from modify_fl.ready import ready_bundles

        return f"{sum(file.stat().st_size for file in ready_bundles().values()) / 1e6:.1f}"
    file = folder / path
    return f"{file.stat().st_size / 1e6:.1f}" if path and file.is_file() else ""


if __name__ == "__main__":
    raise SystemExit(main())
