"""The card of a bundle: its manifest as lines for people (B-19, U-85).

Everything here is the provider's own claim. Who shows it says whether the
signature over it was checked: ``inspect`` marks every line as unverified unless
it was (B-44), and never says "valid".
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from modify_fl.console import Console
from protocol.errors import ProtocolError
from protocol.manifest import DpStatement, Figure, LossNet, Manifest
from protocol.schema import encode
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, open_bundle

__all__ = ["card_lines", "inspect_file", "verify_file"]

_LABEL_WIDTH = 14
_UNVERIFIED = "unverified  "


def verify_file(console: Console, path: Path, *, trust: TrustStore, now: datetime) -> Mapping[str, object]:
    """Run steps 1 to 12 of B-25 on a file and print each; the action of both ``verify`` commands.

    Args:
        console: Says what was checked.
        path: A ``.mdfy`` or ``.mdfa`` file.
        trust: The keys that are accepted.
        now: The time to check validity against.

    Returns:
        Result of the command.

    Raises:
        ProtocolError: A step failed; it names the step.
    """
    with open_bundle(path, trust=trust, now=now) as bundle:
        for step in bundle.steps:
            console.say(f"step {step.number:>2}  {step.name:<46}{step.result}")
        console.say(f"{path}: signed by {bundle.signer.label}, unchanged")
        console.say(f"digest {bundle.payload_digest}")
        return {
            "file": path, "kind": bundle.kind, "digest": bundle.payload_digest, "signer": bundle.signer.label,
            "fingerprint": bundle.signer.fingerprint,
            "steps": [{"step": step.number, "name": step.name, "result": step.result} for step in bundle.steps],
        }  # fmt: skip


def inspect_file(console: Console, path: Path, *, trust: TrustStore, now: datetime) -> Mapping[str, object]:
    """Print the card of a file; every line says so unless its signature was checked (B-44).

    Args:
        console: Prints the lines.
        path: A ``.mdfy`` or ``.mdfa`` file, signed or not.
        trust: Keys against which the signature is tried; none of them need be right.
        now: The time to check validity against.

    Returns:
        Result of the command.

    Raises:
        ProtocolError: The file is not in canonical form, or its manifest is malformed.
    """
    inspection = inspect_bundle(path)
    signer, why = "", ""
    try:
        with open_bundle(path, trust=trust, now=now) as bundle:
            signer = bundle.signer.label
            manifest, digest = bundle.manifest, bundle.payload_digest
    except ProtocolError as error:
        why = error.what
        manifest, digest = inspection.manifest, inspection.payload_digest or ""
    for line in card_lines(manifest, digest=digest, signer=signer):
        console.say(line if signer else f"{_UNVERIFIED}{line}")
    if not signer:
        console.warn(f"nothing of this is verified: {why}")
    return {
        "file": path, "verified": bool(signer), "signer": signer or None, "digest": digest or None,
        "claimed_fingerprint": inspection.claimed_fingerprint, "manifest": encode(manifest),
    }  # fmt: skip


def card_lines(manifest: Manifest, *, digest: str = "", signer: str = "") -> list[str]:
    """Return the card, one fact per line, label first.

    Args:
        manifest: What the bundle says about itself.
        digest: Payload digest, if known.
        signer: Name of the signer in the trust store; the provider's own name
            is shown when it is empty.
    """
    bundle, model = manifest.bundle, manifest.model
    facts = [
        ("kind", manifest.kind),
        ("name", f"{bundle.name} {bundle.version} (sequence {bundle.sequence})"),
        ("digest", digest),
        ("bundle id", bundle.id),
        ("provider", signer or _with_contact(manifest)),
        ("valid", f"{bundle.not_before:%Y-%m-%d} to {bundle.expires:%Y-%m-%d}"),
        ("style", f"{manifest.style.name}: {manifest.style.description}" if manifest.style else ""),
        ("base", f"{manifest.base.payload_sha256} (sequence {manifest.base.sequence})" if manifest.base else ""),
        ("release", manifest.release or ""),
        ("model", f"{model.architecture}, {model.n_parameters / 1e6:.2f} million values, {model.precision}"),
        ("input", model.input),
        ("output", model.output),
        ("licence", f"weights {manifest.licence.model}; data {manifest.licence.dataset}"),
        ("attribution", manifest.licence.attribution),
        ("allowed", ", ".join(manifest.usage.allowed)),
        ("prohibited", ", ".join(manifest.usage.prohibited)),
        *_training(manifest),
        *_privacy(manifest),
        *(("measured", _figure(figure)) for figure in manifest.evaluation),
    ]
    return [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in facts if text]


def _with_contact(manifest: Manifest) -> str:
    provider = manifest.provider
    return f"{provider.name} <{provider.contact}>" if provider.contact else provider.name


def _training(manifest: Manifest) -> list[tuple[str, str]]:
    training = manifest.provenance.training
    how = ", ".join(part for part in (training.mode, training.subset) if part)
    length = f"preset {training.preset}, {training.steps} steps, {training.images_seen} images seen"
    losses = f"perceptual {_net(training.losses.perceptual)}; identity {_net(training.losses.identity)}"
    return [("training", f"{length} ({how})" if how else length), ("losses", losses), ("started from", training.init)]


def _net(net: LossNet) -> str:
    return f"{net.name} ({net.sha256[:12]}...)" if net.sha256 else net.name


def _privacy(manifest: Manifest) -> list[tuple[str, str]]:
    card = manifest.privacy
    data = card.training_data
    audit = card.memorisation_audit
    shipped = "" if audit is None else f"; the critic is {'' if audit.critic_shipped else 'not '}in the bundle"
    return [
        ("trained on", f"{data.number_of_images} images, {data.classification}; {data.basis}"),
        ("privacy", card.statement),
        ("epsilon", _epsilon(card.dp)),
        ("audit", f"{audit.status}{shipped}" if audit else ""),
    ]


def _epsilon(dp: DpStatement) -> str:
    if not dp.applied:
        return "not applicable: no differential privacy ran"
    return f"{dp.epsilon:g} at delta {dp.delta:g}, unit {dp.unit}"


def _figure(figure: Figure) -> str:
    value = "not available" if figure.value is None else f"{figure.value:.4g}"
    count = f" over {figure.samples} pictures" if figure.samples else ""
    return f"{figure.metric} {value}{count}{'; ' + figure.note if figure.note else ''}"
