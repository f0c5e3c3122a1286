"""What bundles give away of their style images, and what each mitigation buys and costs (P-79, P-82).

    TORCH_HOME=weights python benchmarks/leakage.py --runs runs/leakage --photos DATA/content/london/128 \
        --out docs/results/leakage.md --budget 8kimg \
        'paintings=DATA/style/paintings/128' 'engravings=DATA/style/engravings/128'

For every set and every variant a bundle is packed with a standard audit, and ``evaluate`` gives its KID. Each
is kept in ``--runs`` and skipped when it is there, so the command goes on where it was stopped, within a training or an
audit too; the table has what is there. ``--variants`` picks some of ``VARIANTS``, ``--audit`` shortens the attacks.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VARIANTS: dict[str, tuple[str, ...]] = {
    "from the base": (),
    "from the base, no critic": ("--critic", "no"),
    "from scratch": ("--init", "none"),
    "from scratch, no critic": ("--init", "none", "--critic", "no"),
    "a quarter of the time": ("--budget", "QUARTER"),
    "stop gap 1.2": ("--init", "none", "--set", "encapsulation.stop_gap=1.2"),
    "one of each work": ("--near-duplicates", "remove"),
    "jitter 4 %": ("--set", "encapsulation.jitter=0.04"),
    "half the channels": ("--init", "none", "--set", "channel_base=1024", "--set", "enc_base=1024"),
}
"""Options of ``package`` beside the common ones; ``QUARTER`` stands for a quarter of ``--budget``."""

FIGURES = (
    "copy rate", "three-sample AUC", "extracted images", "completion AUC", "membership AUC",
    "membership TPR at FPR 1 %",
)  # fmt: skip
_READ = """95 % intervals; one training each. Figures are attacks that were tried, not a bound: see
[leakage.md](../leakage.md). The base model may have seen some of these public images, held-out ones
among them: figures of bundles that start from it say what the training of the style added."""
WHY = "packed to be measured, not to be handed out"


def program(*words: str | Path) -> list[str]:
    """Return the command line of ``style-provider`` beside this interpreter."""
    return [str(Path(sys.executable).with_name("style-provider")), *map(str, words)]


def run(words: Sequence[str]) -> dict[str, Any]:
    """Run a command with ``--json`` and return its result; its progress goes to the terminal."""
    done = subprocess.run([*words, "--json"], stdout=subprocess.PIPE, check=False, text=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stdout}")
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


def quarter(budget: str) -> str:
    """Return a quarter of a length such as ``8kimg`` or ``10m``."""
    number = budget.rstrip("abcdefghijklmnopqrstuvwxyz")
    return f"{float(number) / 4:g}{budget[len(number) :]}"


def measured(options: argparse.Namespace, style: str, folder: str, variant: str) -> dict[str, Any]:
    """Pack one bundle, or find it, and return what is known of it."""
    name = f"{style}-{variant.replace(', ', '-').replace(' ', '-')}"
    path, note = options.runs / f"{name}.mdfy", options.runs / f"{name}.json"
    if note.is_file():
        found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        return found
    chosen = [quarter(options.budget) if word == "QUARTER" else word for word in VARIANTS[variant]]
    length = () if "--budget" in chosen else ("--budget", options.budget)
    start = time.time()
    packed = run(program(
        "package", "--dataset", folder, "--key", options.runs / "keys" / "bench.pem", "--out", path, "--overwrite",
        "--style-data", "confidential", "--critic", "yes", "--accept-leakage", WHY, "--audit", options.audit,
        "--photos", options.photos, "--seed", str(options.seed), "--threads", str(options.threads), *length, *chosen,
    ))  # fmt: skip
    figures = run(program(
        "evaluate", path, "--dataset", folder, "--photos", options.photos, "--styles", "2", "--limit", "100",
        "--key", options.runs / "keys" / "bench.mdfykey", "--threads", str(options.threads), "--overwrite",
    ))  # fmt: skip
    row = {
        "style": style, "variant": variant, "leakage": packed["leakage"], "images": packed["images"],
        "held_out": packed["held_out"], "images_seen": packed["images_seen"], "train_seconds": packed["seconds"],
        "all_seconds": time.time() - start, "kid": figures["figures"]["style"]["kid"],
        "lpips": packed["reconstruction"].get("lpips"),
    }  # fmt: skip
    note.write_text(json.dumps(row, indent=1), encoding="utf-8")
    return row


def shown(finding: Mapping[str, Any], *, share: bool) -> str:
    """Return value and interval of a finding."""
    if finding["value"] is None:
        return "-"

    def word(value: float) -> str:
        return f"{value:.1%}" if share else f"{value:.2f}"

    interval = "" if finding["low"] is None else f" [{word(finding['low'])}, {word(finding['high'])}]"
    return f"{word(finding['value'])}{interval}{' weak' if finding['weak'] else ''}"


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return one line of the table."""
    known = {finding["name"]: finding for finding in row["leakage"]["findings"]}
    texts = [
        f"{known[name]['value']:.0f}" if name == "extracted images"
        else shown(known[name], share=name == "copy rate" or "TPR" in name)
        for name in FIGURES
    ]  # fmt: skip
    kid = "-" if row["kid"]["value"] is None else f"{row['kid']['value']:.1f}"
    lpips = "-" if row["lpips"] is None else f"{row['lpips']:.3f}"
    return [row["variant"], *texts, kid, lpips, f"{row['images_seen'] / 1000:.1f}"]


def document(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """Return the page with one table for each set of style images, and the single attacks below."""
    header = ["bundle", *FIGURES, "KID x 1000", "LPIPS held out", "kimg"]
    how = f"budget {options.budget}, seed {options.seed}, audit {options.audit}, {options.threads} thread(s)"
    parts = ["# What bundles give away of their style images", "", f"`benchmarks/leakage.py`: {how},"]
    parts += [f"{platform.machine()}. {_READ}"]
    for style in dict.fromkeys(row["style"] for row in rows):
        mine = [row for row in rows if row["style"] == style]
        parts += ["", f"## {style}: {mine[0]['images']} images, {mine[0]['held_out']} of them held out", ""]
        parts += [_line(header), _line(["---"] * len(header)), *(_line(cells(row)) for row in mine)]
        attacks = [f for f in mine[0]["leakage"]["findings"] if f["name"].startswith(("AUC", "control"))]
        names = [finding["name"] for finding in attacks]
        parts += ["", "Single attacks:", "", _line(["bundle", *names]), _line(["---"] * (1 + len(names)))]
        for row in mine:
            known = {finding["name"]: finding for finding in row["leakage"]["findings"]}
            parts.append(_line([row["variant"], *(shown(known[n], share=False) if n in known else "-" for n in names)]))
    return "\n".join(parts) + "\n"


def _line(words: Sequence[str]) -> str:
    return f"| {' | '.join(words)} |"


def main() -> int:
    """Measure what is not measured yet and write the table after each bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--photos", required=True, help="public photos")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", default="8kimg")
    parser.add_argument("--audit", default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    if not (options.runs / "keys").is_dir():
        words = program("keygen", "--name", "Bench", "--out", options.runs / "keys", "--no-passphrase", "--quiet")
        subprocess.run(words, check=True)  # noqa: S603
    rows = []
    for given in options.sets:
        style, _, folder = given.partition("=")
        for variant in options.variants:
            rows.append(measured(options, style, folder, variant))
            options.out.write_text(document(rows, options), encoding="utf-8")
            print(f"{style}, {variant}: done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
