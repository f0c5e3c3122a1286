"""The programs as a user starts them: start-up, signals, hostile files, examples (U-31, U-32, U-48, B section 10)."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import PACKAGE, QUICK, client, draw_photos, provider

from protocol.provider import read_provider_key
from protocol.verify import inspect_bundle

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAMS = ("style-provider", "content-client")

pytestmark = pytest.mark.e2e


def _module(program: str) -> str:
    return f"{program.replace('-', '_')}.cli.app"


def _command(program: str, *words: str | Path) -> list[str]:
    start = f"import sys; from {_module(program)} import main; sys.argv[0] = {program!r}; sys.exit(main())"
    return [sys.executable, "-c", start, *map(str, words)]


def _imported(program: str, *words: str | Path, cwd: Path) -> set[str]:
    """Run a command in a process of its own and return the heavy packages that it imported."""
    code = (
        f"import sys; from {_module(program)} import main; main(); "
        "print('IMPORTED', *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )
    names = set(done.stderr.rpartition("IMPORTED")[2].split())
    return names & {"torch", "numpy", "PIL", "lpips", "flwr", "opacus", "pydantic", "rich"}


def test_light_commands_never_import_torch(studio: Path, tmp_path: Path) -> None:
    bundle, key = studio / "style.mdfy", studio / "keys" / "studio.mdfykey"
    assert _imported("style-provider", "--help", cwd=tmp_path) == set()
    assert _imported("content-client", "--help", cwd=tmp_path) == set()
    assert _imported("style-provider", "verify", bundle, "--key", key, cwd=tmp_path) == set()
    assert _imported("content-client", "inspect", bundle, cwd=tmp_path) == set()
    assert _imported("content-client", "trust", "list", cwd=tmp_path) == set()


@pytest.mark.parametrize("program", _PROGRAMS)
def test_help_answers_at_once(program: str, tmp_path: Path) -> None:
    # CPU time of the process, since other work on the machine must not decide (U-31: half a second).
    used = []
    for _ in range(2):
        before = os.times()
        subprocess.run(_command(program, "--help"), cwd=tmp_path, check=True, capture_output=True, timeout=60)
        after = os.times()
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(used) < 0.5


def test_help_texts_are_the_golden_ones() -> None:
    done = subprocess.run(
        [sys.executable, _ROOT / "tests" / "golden" / "help.py", "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_completes_commands(shell: str, tmp_path: Path) -> None:
    """U-42: what the shell's own script asks, with its variables, is answered with the commands."""
    asked = {"_CONTENT_CLIENT_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= {"COMP_WORDS": "content-client sty", "COMP_CWORD": "1"}
    elif shell == "powershell":
        asked |= {"_TYPER_COMPLETE_ARGS": "content-client sty", "_TYPER_COMPLETE_WORD_TO_COMPLETE": "sty"}
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": "content-client sty", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        _command("content-client"), cwd=tmp_path, env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert "stylize" in done.stdout
    assert "verify" not in done.stdout


def test_completion_is_installed_for_the_shell_in_use(tmp_path: Path) -> None:
    """U-42: the script is written below the user's home; the name of the shell comes first where none is seen."""
    environment = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        _command("style-provider", "--install-completion", "bash"), cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = (tmp_path / ".bash_completions" / "style-provider.sh").read_text(encoding="utf-8")
    assert "complete" in written
    assert "style-provider" in (tmp_path / ".bashrc").read_text(encoding="utf-8")


def _weights(path: Path) -> dict[str, str]:
    return {file.file: file.sha256 for file in inspect_bundle(path).manifest.model.weights}


def test_sigterm_then_the_same_command_gives_the_same_weights(studio: Path, tmp_path: Path) -> None:
    shutil.copytree(studio / "keys", tmp_path / "keys")
    words = ("package", "--dataset", "synthetic", "--limit", "12", "--budget", "60steps", *PACKAGE, *QUICK)
    whole = provider(*words, "--out", "whole.mdfy", cwd=tmp_path)
    assert whole.code == 0, whole.err
    parts = _command("style-provider", *words, "--out", "parts.mdfy")
    metrics = tmp_path / "parts.mdfy.run" / "metrics.jsonl"
    with subprocess.Popen(parts, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (metrics.is_file() and '"tick"' in metrics.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "style-provider package --dataset synthetic" in err  # the command that goes on (U-48)
    assert not (tmp_path / "parts.mdfy").exists()
    again = provider(*words, "--out", "parts.mdfy", "--json", cwd=tmp_path)
    assert again.code == 0, again.err
    assert again.json["result"]["steps"] == 60
    assert "going on after step" in again.err
    assert _weights(tmp_path / "parts.mdfy") == _weights(tmp_path / "whole.mdfy")


@pytest.fixture
def trusting(studio: Path, tmp_path: Path) -> Path:
    key = studio / "keys" / "studio.mdfykey"
    client("trust", "add", key, "--fingerprint", read_provider_key(key).fingerprint, cwd=tmp_path)
    draw_photos(tmp_path / "photos", 1)
    return tmp_path


def _refused(path: Path, cwd: Path) -> int:
    """Try to use a file; nothing may be written, and the reason is one sentence."""
    before = sorted(cwd.rglob("*"))
    result = client("stylize", "--no-align", "--bundle", path, "photos", "--out", "out", "--threads", "1", cwd=cwd)
    assert sorted(cwd.rglob("*")) == before
    assert len([line for line in result.err.splitlines() if ": error: " in line]) == 1
    assert "Traceback" not in result.err
    return result.code


def test_flipped_bits_are_refused_everywhere(studio: Path, trusting: Path) -> None:
    data = (studio / "style.mdfy").read_bytes()
    bad = trusting / "bad.mdfy"
    step = len(data) // 24
    for offset in [0, 3, 30, *range(step, len(data), step), len(data) - 1]:
        changed = bytearray(data)
        changed[offset] ^= 1 << (offset % 8)
        bad.write_bytes(changed)
        code = client("verify", bad, cwd=trusting).code
        assert code in {3, 4, 5}, offset
    assert _refused(bad, trusting) in {3, 4, 5}


@pytest.mark.parametrize("kept", [0, 1, 1000, -1])
def test_truncated_files_are_refused(kept: int, studio: Path, trusting: Path) -> None:
    bad = trusting / "bad.mdfy"
    bad.write_bytes((studio / "style.mdfy").read_bytes()[:kept])
    assert _refused(bad, trusting) == 3


def test_unknown_signer_is_refused(studio: Path, tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos", 1)
    assert _refused(studio / "style.mdfy", tmp_path) == 5


def test_adapter_is_refused_as_a_style_and_on_another_bundle(studio: Path, trusting: Path) -> None:
    made = client("adapt", "--no-align", "--bundle", studio / "style.mdfy", "--budget", "1steps", *QUICK, cwd=trusting)
    assert made.code == 0, made.err
    assert _refused(trusting / "photos.mdfa", trusting) == 6
    shutil.copytree(studio / "keys", trusting / "keys")
    words = ("package", "--dataset", "synthetic", "--limit", "8", "--budget", "1steps", "--out", "other.mdfy")
    assert provider(*words, *PACKAGE, *QUICK, cwd=trusting).code == 0
    result = client(
        "stylize",
        "--no-align",
        "--bundle",
        "other.mdfy",
        "--adapter",
        "photos.mdfa",
        "photos",
        "--out",
        "o",
        cwd=trusting,
    )
    assert result.code == 6
    assert not (trusting / "o").exists()


def _run_example(name: str, *words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, _ROOT / "examples" / name, *map(str, words)],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_examples_tell_one_story(tmp_path: Path) -> None:
    assert "is signed by SHA256:" in _run_example("01_encapsulate.py", "example", cwd=tmp_path)
    lines = _run_example("02_sign_and_verify.py", "example", cwd=tmp_path).splitlines()
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == ["signed", "refused", "refused"]
    painted = _run_example("04_stylize.py", "example", cwd=tmp_path)
    first, last = (float(word) for word in painted.split() if word.replace(".", "").isdigit() and "." in word)
    assert last < first
    assert (tmp_path / "example" / "sheet.png").is_file()


def test_example_of_a_key_over_time(tmp_path: Path) -> None:
    told = _run_example("03_trust_over_time.py", "trust", cwd=tmp_path)
    assert [line for line in told.splitlines() if line.startswith("[exit code")] == [
        "[exit code 5]", "[exit code 5]", "[exit code 6]",
    ]  # fmt: skip
    assert "bundle withdrawn: a picture was used without consent" in told


def test_demo_ends_with_a_page_of_its_own(tmp_path: Path) -> None:
    out = _run_example("demo.py", "--out", "demo", "--tiny", "--minutes", "0.02", cwd=tmp_path)
    page = tmp_path / "demo" / "index.html"
    assert out.endswith(f"look at {page}\n")
    assert out.index(f"first pictures: {page}") < out.index("$ style-provider keygen")
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 4
    assert "<script" not in text
    assert 'src="http' not in text
    assert text.count("<details>") == out.count("\n$ ") + 1  # every command that was typed, and the card
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    refused = subprocess.run(
        [sys.executable, _ROOT / "examples" / "demo.py", "--out", tmp_path / "mine"], check=False, capture_output=True
    )
    assert refused.returncode == 1
    assert (tmp_path / "mine" / "file").exists()


def test_pretrained_networks_are_found_and_recorded(
    studio: Path, shared_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(shared_weights))
    words = (
        "package",
        "--dataset",
        "synthetic",
        "--limit",
        "8",
        "--budget",
        "2steps",
        "--require-perceptual",
        "--json",
    )
    key = studio / "keys" / "studio.pem"
    result = provider(*words, "--key", key, *PACKAGE, *QUICK, cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.json["result"]["reconstruction"]["lpips"] > 0
    assert result.json["result"]["losses"] == {"perceptual": "lpips-alex", "identity": "facenet-vggface2"}
