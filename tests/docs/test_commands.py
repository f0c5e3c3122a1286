"""Every command that README and docs show works as shown.

Three ways of checking, from the strongest:

- ``STORIES``: the console blocks of a page are run from top to bottom, with our real programs, in a home of their own.
  Trainings are made tiny (``_scaled``), nothing else is changed; exit codes must be those of the page, and every line
  of output that the page shows must come, numbers and digests aside (of trainings, the line that begins with "wrote").
- Every command of ours, in blocks and in running text, is taken apart by the real command line: commands, options and
  values must exist. So are those that train for hours, need other data, a GPU or the network; they are not run.
- Of other programs, scripts, modules, options, make targets and extras must exist.

The pages of ``docs/reference`` are made from the code and compared by ``tests/golden/help.py``.
"""

import re
import tomllib
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import click
import numpy as np
import pytest
from docskit import PROGRAMS, ROOT, Command, commands, inline_commands, pages, parse, shape
from PIL import Image
from programs import PACKAGE, QUICK, Result, run
from vaultkit import charge

from modify_fl.faces.decode import decode_image, save_png
from modify_fl.privacy.ledger import Vault
from modify_fl.ready import DEMO_KEY
from modify_fl.synthetic import draw_faces
from protocol.provider import read_provider_key
from protocol.trust import TrustStore

_REFERENCE = ROOT / "docs" / "reference"
_PAGES = [path for path in pages() if path.parent != _REFERENCE]
_COMMANDS = [command for path in _PAGES for command in commands(path)]
_MODULES = {"style_provider": "style-provider", "content_client": "content-client"}
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_RECIPIENT = re.compile(r"age1[0-9a-z]{20,}")
_FOLDERS = ("paintings", "photos", "holiday")


def _name(command: Command) -> str:
    return f"{command.page}: {command.text}"[:90]


# Taken apart ------------------------------------------------------------------


@pytest.mark.parametrize("command", [c for c in _COMMANDS if c.words and c.words[0] in PROGRAMS], ids=_name)
def test_commands_of_ours_exist_with_their_options(command: Command) -> None:
    words = command.words
    parse(words[:-1] if command.cut else words, whole=not command.cut)


@pytest.mark.parametrize("path", _PAGES, ids=lambda path: path.name)
def test_commands_in_running_text_exist(path: Path) -> None:
    for command in inline_commands(path):
        parse(command.words, whole=False)


def test_a_wrong_option_would_be_found() -> None:
    for words in (["content-client", "stylise"], ["content-client", "stylize", "--bundel", "x"]):
        with pytest.raises(click.UsageError):
            parse(words, whole=False)
    with pytest.raises(click.UsageError):
        parse(["style-provider", "package", "--budget", "15m"], whole=True)  # --dataset is missing
    with pytest.raises(ValueError, match="names no command"):
        parse(["style-provider"], whole=True)


@pytest.mark.parametrize("command", [c for c in _COMMANDS if c.words and c.words[0] not in PROGRAMS], ids=_name)
def test_other_programs_exist_with_their_options(command: Command) -> None:
    program, *words = command.words
    if program == "torchrun":
        module = words[words.index("-m") + 1]
        parse([_MODULES[module], *words[words.index("-m") + 2 : -1]], whole=False)
    elif program == "python":
        script = ROOT / (words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0])
        source = script.read_text(encoding="utf-8")
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in source, option
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        assert words[0] == "install"
        for wanted in re.findall(r"\[([a-z,]+)\]", words[-1]):
            assert set(wanted.split(",")) <= extras.keys()
    elif program == "flwr":  # tests/e2e/test_flwr_run.py runs it
        assert program in {script.name for script in entry_points(group="console_scripts")}
        assert words[0] == "run"
    else:
        assert program in {"git", "cd", "export"} or program.startswith("app=$("), f"nothing checks {program}"


# Run --------------------------------------------------------------------------


class _Story:
    """Plays a page: one folder for all, or one for each prompt."""

    def __init__(self, home: Path) -> None:
        self.home, self.said = home, ""

    def play(self, command: Command) -> Result:
        folder = self.home / command.prompt
        if not folder.exists():
            folder.mkdir()
            for name in _FOLDERS:
                (folder / name).symlink_to(self.home / name)
        program, *words = [self._known(word) for word in command.words]
        for word in words:
            self._receive(folder, word)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MODIFY_CONFIG", str(self.home / f"config-{command.prompt}"))
            result = run(program, *_scaled(words), cwd=folder)
        self.said += result.out
        assert result.code == command.code, f"{command.text}\n{result.out}{result.err}"
        return result

    def _known(self, word: str) -> str:
        """Replace the fingerprint and the recipient of the page by those that were printed last in this story."""
        for pattern in (_FINGERPRINT, _RECIPIENT):
            if pattern.fullmatch(word):
                return pattern.findall(self.said)[-1]
        return word

    def _receive(self, folder: Path, word: str) -> None:
        """Carry over a file that somebody else in this story made: the page says that it was sent."""
        if word.endswith((".mdfy", ".mdfykey", ".mdfyrev")) and not (folder / word).exists():
            found = sorted(path for path in self.home.rglob(Path(word).name) if path.is_file())
            if found:
                (folder / word).write_bytes(found[0].read_bytes())


def _scaled(words: list[str]) -> list[str]:
    """Make a training tiny; all else stays as typed."""
    if words[-1] == "...":
        words = [*words[:-1], "--dataset", "synthetic", "--limit", "12"]
    words = [word for word in words if word != "--require-perceptual"]
    if words[0] not in {"package", "adapt"} or "cuda" in words:
        return words
    for option in ("--budget", "--threads"):
        if option in words:
            at = words.index(option)
            words = [*words[:at], *words[at + 2 :]]
    if "dp" in words:
        return [*words, "--steps", "1", "--accept-low-utility", *QUICK]
    return [*words, "--budget", "2steps", *(PACKAGE if words[0] == "package" else ()), *QUICK]


def _check_output(command: Command, result: Result) -> None:
    """Find every line of the page in the output; ``...`` at its end stands for its rest."""
    trained = command.words[1] in {"package", "adapt"} and not command.code
    shown = [line for line in command.output if line.strip() and line.strip() != "..."]
    if trained:
        shown = [line for line in shown if line.startswith("wrote ")]
    printed = [shape(line) for line in (result.out + result.err).splitlines()]
    for line in map(shape, shown):
        words = line.removesuffix("...").rstrip()  # a page breaks long lines
        assert any(words in other for other in printed), f"{words!r} not in {printed}"


def _pictures(folder: Path, look: str, count: int, side: int) -> None:
    for index, face in enumerate(draw_faces(look, count, side, 3)):  # type: ignore[arg-type]
        photo = np.full((side + 60, side + 60, 3), 190, np.uint8)
        photo[30 : 30 + side, 30 : 30 + side] = face
        save_png(face if look == "painting" else photo, folder / f"{look}-{index:02d}.png")


STORIES = (
    "README.md",
    "docs/how-to/own-style.md",
    "docs/how-to/own-photos.md",
    "docs/how-to/privacy.md",
    "docs/trust.md",
)
"""Pages that are run from top to bottom."""


def _home(folder: Path) -> Path:
    """Put pictures where the pages have theirs."""
    _pictures(folder / "paintings", "painting", 16, 64)
    for name in ("photos", "holiday"):
        _pictures(folder / name, "photo", 2, 140)
    broken = folder / "holiday" / "broken.jpg"
    with Image.open(folder / "holiday" / "photo-00.png") as picture:
        picture.save(broken)
    broken.write_bytes(broken.read_bytes()[:-40])
    return folder


@pytest.mark.parametrize("page", STORIES)
def test_a_page_is_a_story_that_works(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFY_PASSPHRASE", "typed where a page leaves out the question")
    story = _Story(_home(tmp_path))
    for command in commands(ROOT / page):
        if command.words[0] in PROGRAMS:
            _check_output(command, story.play(command))


def test_the_page_on_privacy_works(tmp_path: Path) -> None:
    """It shows the statement first; here its vault is made, and its hundred steps are charged, before that."""
    story, shown = _Story(_home(tmp_path)), commands(ROOT / "docs" / "privacy.md")
    for command in sorted(shown, key=lambda command: "init" not in command.words):  # all others stay in their order
        _check_output(command, story.play(command))
        if "init" in command.words:
            with Vault.open(tmp_path / "photos", run="portraits") as vault:
                charge(vault, 100, run="portraits")


def test_the_python_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    _pictures(tmp_path, "photo", 1, 140)
    (tmp_path / "photo-00.png").rename(tmp_path / "me.jpg")  # what it is, its bytes say
    TrustStore.default().add(read_provider_key(DEMO_KEY))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own page
    assert decode_image(tmp_path / "me-painted.png").shape == (200, 200, 3)


def test_a_device_that_is_not_there_is_refused_as_the_page_says(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA device")
    story = _Story(_home(tmp_path))
    story.play(Command(page="", text="style-provider keygen --name Studio --out keys --no-passphrase"))
    (asked,) = (command for command in commands(ROOT / "docs" / "how-to" / "gpu.md") if "cuda" in command.words)
    _check_output(asked, story.play(asked))


@pytest.mark.slow
def test_fetched_weights_are_verified_as_the_page_says(
    shared_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(shared_weights))
    (asked,) = (c for c in commands(ROOT / "docs" / "how-to" / "air-gapped.md") if "verify" in c.words)
    answers = tuple(line.partition(";")[0] for line in asked.output)  # which of the known files it is may differ
    _check_output(replace(asked, output=answers), _Story(tmp_path).play(asked))
