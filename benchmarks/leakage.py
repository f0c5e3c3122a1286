"""What bundles give away of their style images, and what each mitigation buys and costs (P-79, P-82).

    TORCH_HOME=weights python benchmarks/leakage.py --runs runs/leakage --photos DATA/content/london/128 \
        --out docs/results/leakage.md --budget 8kimg --variants 'from scratch' 'jitter 4 %' \
        --finished 'paintings/from the base=paintings.mdfy' --reference paintings=DATA/held-out/paintings/128 \
        paintings=DATA/style/paintings/128 engravings=DATA/style/engravings/128

Each variant of each set is packed with an audit, bundles of ``--finished`` are taken as they are, and ``evaluate``
gives the KID of both. What is there in ``--runs`` is not made again, so the command goes on where it was stopped; the
page has what is there, and says what is not. A bundle with its critic gives a second row without it: the same
attacks, those on the critic left out.
"""

import argparse
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from protocol.provider import read_provider_key
from protocol.trust import TrustStore
from protocol.verify import open_bundle
from style_provider.leakage.findings import HEADLINES, attack_findings
from style_provider.leakage.report import RESULT

Row = Mapping[str, Any]

VARIANTS: dict[str, tuple[str, ...]] = {
    "from the base": (),
    "from scratch": ("--init", "none"),
    "a quarter of the time": ("--budget", "QUARTER"),
    "stop gap 1.2": ("--set", "encapsulation.stop_gap=1.2"),
    "one of each work": ("--near-duplicates", "remove"),
    "jitter 4 %": ("--set", "encapsulation.jitter=0.04"),
    "half the channels": ("--init", "none", "--set", "channel_base=1024", "--set", "enc_base=1024"),
}
"""Options of ``package`` beside the common ones; ``QUARTER`` stands for a quarter of ``--budget``."""

NO_CRITIC = ", no critic"
WHY = "packed to be measured, not to be handed out"
_READ = """95 % intervals; one training each. Figures are attacks that were tried, not a bound: see
[leakage.md](../leakage.md). The base model may have seen some of these public images, held-out ones
among them: figures of bundles that start from it say what the training of the style added. A row without critic
is the bundle above it, with the attacks on the critic left out of the strongest. Bundles that were given away are
told by their cards alone, in bands, as they were signed. KID is that of photos painted by the
bundle against style images that nothing was trained on; LPIPS is that of reconstructions of held-out images."""


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


# Bundles ----------------------------------------------------------------------


def pack(options: argparse.Namespace, folder: str, variant: str, out: Path) -> None:
    """Pack one bundle; its critic stays in it, so that it is measured too."""
    wanted = options.also.get(variant, VARIANTS.get(variant, ()))
    chosen = [quarter(options.budget) if word == "QUARTER" else word for word in wanted]
    length = () if "--budget" in chosen else ("--budget", options.budget)
    run(program(
        "package", "--dataset", folder, "--key", options.runs / "keys" / "bench.pem", "--out", out,
        "--style-data", "confidential", "--critic", "yes", "--accept-leakage", WHY, "--audit", options.audit,
        "--photos", options.photos, "--seed", str(options.seed), "--threads", str(options.threads), *options.options,
        *length, *chosen,
    ))  # fmt: skip


def kid(options: argparse.Namespace, style: str, bundle: Path, keys: Sequence[Path]) -> dict[str, Any] | None:
    """Return the KID of painted photos, an ``Estimate`` by its fields; nothing without images to compare with."""
    if style not in options.references:
        return None
    figures = run(program(
        "evaluate", bundle, "--dataset", options.sets[style], "--photos", options.faces or options.photos,
        "--reference", options.references[style], "--styles", "1", "--limit", str(options.limit),
        "--threads", str(options.threads), "--overwrite", *(word for key in keys for word in ("--key", key)),
    ))  # fmt: skip
    found: dict[str, Any] = figures["figures"]["style"]["kid"]
    return found


def read(bundle: Path, keys: Sequence[Path], variant: str) -> Iterator[Row]:
    """Return what the bundle says, and what the folder of its run adds: exact numbers, and the row without critic."""
    home = bundle.with_name(f"{bundle.name}.run")
    trust = TrustStore.of(*map(read_provider_key, keys))
    with open_bundle(bundle, trust=trust, now=datetime.now(UTC)) as opened:
        manifest, report = opened.manifest, json.loads(opened.read(RESULT))
    training, network = manifest.provenance.training, manifest.model.parameters
    lpips = [figure.value for figure in manifest.evaluation or () if figure.metric.startswith("LPIPS")]
    row = {
        "variant": variant, "findings": report["findings"], "strength": report["strength"],
        "trained": report["trained_band"], "held_out": report["held_out_band"], "side": network["resolution"],
        "channels": network["channel_base"], "init": training.init, "budget": "-",
        "images_seen": training.images_seen, "lpips": lpips[0] if lpips else None, "audit_seconds": None,
    }  # fmt: skip
    if not home.is_dir():
        yield row
        return
    audit = next(path for path in (home / "audit").iterdir() if (path / "seconds.json").is_file())
    row |= private(home) | {"audit_seconds": json.loads((audit / "seconds.json").read_text(encoding="utf-8"))}
    yield row
    if report["critic_shipped"]:
        yield row | {"variant": f"{variant}{NO_CRITIC}", "findings": without_critic(report["findings"], audit)}


def private(home: Path) -> dict[str, Any]:
    """Return what only the folder of a run knows: budget, and how many images were trained on and held out."""
    settings = json.loads((home / "config.json").read_text(encoding="utf-8"))["settings"]
    note = json.loads((home / "holdout.json").read_text(encoding="utf-8"))
    return {"trained": len(note["trained"]), "held_out": len(note["held"]), "budget": settings["budget"]}


def without_critic(findings: Sequence[Row], audit: Path) -> list[Row]:
    """Return the findings of the same bundle without its critic, from the raw scores that the provider keeps.

    Args:
        findings: Of the bundle with its critic.
        audit: Folder of that audit.
    """
    sides = [load_file(audit / f"scores-{side}.safetensors") for side in ("trained", "held")]
    scores = {name: (sides[0][name], sides[1][name]) for name in sides[0] if not name.startswith("critic")}
    sought = [[load_file(path) for path in sorted(audit.glob(f"{side}-*"))] for side in ("trained", "held")]
    if all(sought):
        for name in ("completion", "inversion"):
            first, second = (-torch.cat([part[name] for part in side]) for side in sought)
            scores[name] = (first, second)
    again = {finding.name: finding.as_json() for finding in attack_findings(scores)}
    return [again.get(f["name"], f) for f in findings if "critic" not in f["name"]]


def measured(options: argparse.Namespace, style: str, variant: str, bundle: Path, keys: Sequence[Path]) -> list[Row]:
    """Return the rows of one bundle; its KID is kept, as it takes minutes."""
    note = options.runs / f"{style}-{variant.replace(' ', '-')}.kid.json"
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
    if known is None:
        known = kid(options, style, bundle, keys)
        note.write_text(json.dumps(known), encoding="utf-8")
    return [{**row, "style": style, "kid": known} for row in read(bundle, keys, variant)]


# The page ---------------------------------------------------------------------


def shown(finding: Row, name: str) -> str:
    """Return value and interval of a finding."""
    if finding["value"] is None:
        return "-"
    share = name == "copy rate" or "TPR" in name
    form = ".0f" if name == "extracted images" else ".1%" if share else ".2f"
    interval = "" if finding["low"] is None else f" [{finding['low']:{form}}, {finding['high']:{form}}]"
    return f"{finding['value']:{form}}{interval}{' weak' if finding['weak'] else ''}"


def cells(row: Row) -> list[str]:
    """Return one line of the table."""
    known = {finding["name"]: finding for finding in row["findings"]}
    figure = row["kid"]
    kid_text = "-" if not figure or figure["value"] is None else f"{figure['value']:.1f}"
    lpips = "-" if row["lpips"] is None else f"{row['lpips']:.3f}"
    return [row["variant"], *(shown(known[name], name) for name in HEADLINES), kid_text, lpips]


def course(row: Row) -> list[str]:
    """Return how a bundle was made and attacked; bundles that were given away say only in which bands they lie."""
    plan, seen, seconds = row["strength"], row["images_seen"], row["audit_seconds"]
    epochs = f", {seen / row['trained']:.0f}" if isinstance(row["trained"], int) else ""
    return [
        row["variant"], f"{row['side']} px, {row['channels']}", row["init"].split()[0],
        f"{row['trained']} + {row['held_out']}", row["budget"], f"{seen / 1000:.1f}{epochs}",
        str(plan["generated"]), str(plan["compared"]), "-" if seconds is None else f"{seconds / 60:.1f}",
    ]  # fmt: skip


_COURSE = (
    "bundle", "side, channels", "start", "trained + held out", "budget", "kimg, epochs", "drawn", "completed",
    "audit, minutes",
)  # fmt: skip


def document(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """Return the page: figures, single attacks, how each bundle was made, and what was not."""
    parts = ["# What bundles give away of their style images", "", _machine(options), _READ]
    for style in dict.fromkeys(row["style"] for row in rows):
        mine = [row for row in rows if row["style"] == style]
        parts += ["", f"## {style}", "", *_table(["bundle", *HEADLINES, "KID x 1000", "LPIPS"], map(cells, mine))]
        parts += ["", "Single attacks, AUC:", "", *_attacks(mine)]
        made = [row for row in mine if not row["variant"].endswith(NO_CRITIC)]
        parts += ["", "How they were made and attacked:", "", *_table(_COURSE, map(course, made))]
        missing = [name for name in VARIANTS if name not in {row["variant"] for row in made}]
        parts += ["", f"Not made for {style}: {', '.join(missing)}."] if missing else []
    return "\n".join(parts) + "\n"


def _machine(options: argparse.Namespace) -> str:
    faces = (
        f"KID of {options.limit} photos, each in one style, where it was measured" if options.references else "no KID"
    )
    extra = f" Bundles packed by it have these options: `{' '.join(options.options)}`." if options.options else ""
    return (
        f"`benchmarks/leakage.py`, {options.threads} thread(s) of a shared {platform.machine()} machine, seed "
        f"{options.seed}, {faces}; minutes are those of the clock.{extra}"
    )


def _attacks(rows: Sequence[Row]) -> list[str]:
    known = [
        {f["name"]: f for f in row["findings"] if f["name"].startswith(("AUC", "control"))}
        for row in rows if not row["variant"].endswith(NO_CRITIC)
    ]  # fmt: skip
    names = list(dict.fromkeys(name for found in known for name in found))
    lines = [[name, *(shown(found[name], name) if name in found else "-" for found in known)] for name in names]
    made = [row["variant"] for row in rows if not row["variant"].endswith(NO_CRITIC)]
    return _table(["attack", *made], lines)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(words)} |" for words in (header, ["---"] * len(header), *lines)]


def _pairs(given: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in given)}


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet and write the page after each bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="STYLE=FOLDER")
    parser.add_argument("--finished", nargs="*", default=[], metavar="STYLE/VARIANT=BUNDLE")
    parser.add_argument("--key", type=Path, nargs="*", default=[], help="each .mdfykey of finished bundles")
    parser.add_argument(
        "--reference", nargs="*", default=[], metavar="STYLE=FOLDER", help="images no training had: KID"
    )
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--photos", required=True, help="public photos for the attacks")
    parser.add_argument("--faces", help="photos for the KID; those of --photos where none are named")
    parser.add_argument("--limit", type=int, default=100, help="photos painted for the KID")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", default="8kimg")
    parser.add_argument("--audit", default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--also", nargs="*", default=[], metavar="VARIANT=OPTIONS", help="further variants")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="more options of package, the last")
    options = parser.parse_args(words)
    options.sets, options.references = _pairs(options.sets), _pairs(options.reference)
    options.also = {name: shlex.split(words) for name, words in _pairs(options.also).items()}
    options.runs.mkdir(parents=True, exist_ok=True)
    if (options.variants or options.also) and not (options.runs / "keys").is_dir():
        words = program("keygen", "--name", "Bench", "--out", options.runs / "keys", "--no-passphrase", "--quiet")
        subprocess.run(words, check=True)  # noqa: S603
    rows: list[Row] = []
    own = options.runs / "keys" / "bench.mdfykey"
    keys = [*options.key, *([own] if own.is_file() else [])]
    for style, variant, bundle in _bundles(options):
        if not bundle.is_file():
            pack(options, options.sets[style], variant, bundle)
        rows += measured(options, style, variant, bundle, keys)
        options.out.write_text(document(rows, options), encoding="utf-8")
        print(f"{style}, {variant}: done")
    return 0


def _bundles(options: argparse.Namespace) -> Iterator[tuple[str, str, Path]]:
    finished = {tuple(name.split("/", 1)): Path(path) for name, path in _pairs(options.finished).items()}
    for style in options.sets:
        yield from ((style, variant, bundle) for (of, variant), bundle in finished.items() if of == style)
        for variant in (*options.variants, *options.also):
            if (style, variant) not in finished:
                yield style, variant, options.runs / f"{style}-{variant.replace(' ', '-')}.mdfy"


if __name__ == "__main__":
    sys.exit(main())
