"""The card of a bundle: its manifest as lines for people (B-19, U-85).

Everything here is the provider's own claim. Who shows it says whether the
signature over it was checked: ``inspect`` marks every line as unverified unless
it was (B-44), and never says "valid".
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from modify_fl.console import Console
from modify_fl.errors import ConfigError
from protocol.card import model_card
from protocol.encryption import Identity
from protocol.errors import ProtocolError
from protocol.manifest import DpStatement, Figure, LossNet, Manifest, MemorisationAudit, Usage
from protocol.schema import encode
from protocol.trust import TrustStore
from protocol.verify import inspect_bundle, verify_bundle

__all__ = ["FORMS", "card_lines", "inspect_file"]

FORMS = ("card", "json", "hf-card")
"""How a manifest can be shown: lines for people, itself, or the model card for Hugging Face (B-21)."""

_LABEL_WIDTH = 14
_UNVERIFIED = "unverified  "


def inspect_file(
    console: Console, path: Path, *, trust: TrustStore, now: datetime, identity: Identity | None = None,
    form: str = "card",
) -> Mapping[str, object]:  # fmt: skip
    """Print what a file says about itself, marked as unverified unless its signature was checked (B-44).

    Args:
        console: Prints the lines.
        path: A ``.mdfy`` or ``.mdfa`` file, signed or not.
        trust: Keys against which the signature is tried; none of them need be right.
        now: The time to check validity against.
        identity: The user's own age identity, for a file that is encrypted or addressed.
        form: One of ``FORMS``.

    Returns:
        Result of the command.

    Raises:
        ConfigError: There is no such form.
        ProtocolError: The file is not in canonical form, encrypted to somebody
            else, or its manifest is malformed.
    """
    if form not in FORMS:
        raise ConfigError(f"no format is called {form}", fix=f"use one of {', '.join(FORMS)}")
    inspection = inspect_bundle(path, identity=identity)
    signer, why = "", ""
    manifest, digest = inspection.manifest, inspection.payload_digest or ""
    try:
        seen = verify_bundle(path, trust=trust, now=now, identity=identity)
    except ProtocolError as error:
        why = error.what
    else:
        signer, manifest, digest = seen.signer.label, seen.manifest, seen.payload_digest
        for warning in seen.warnings:
            console.warn(warning)
    result = {
        "file": path, "verified": bool(signer), "signer": signer or None, "digest": digest or None,
        "encrypted": inspection.encrypted, "claimed_fingerprint": inspection.claimed_fingerprint,
        "manifest": encode(manifest),
    }  # fmt: skip
    _print(console, form, manifest, digest, signer)
    if not signer:
        console.warn(f"nothing of this is verified: {why}")
    return result


def _print(console: Console, form: str, manifest: Manifest, digest: str, signer: str) -> None:
    if form == "json":
        shown = {"verified": bool(signer), "digest": digest or None, "manifest": encode(manifest)}
        console.say(json.dumps(shown, indent=1, ensure_ascii=True))
    elif form == "hf-card":
        head, end, rest = model_card(manifest).decode("utf-8").rstrip("\n").partition("\n---\n")
        mark = "" if signer else f"\n> {_UNVERIFIED.strip()}: nothing of this card was checked\n"
        console.say(head + end + mark + rest)
    else:
        for line in card_lines(manifest, digest=digest, signer=signer):
            console.say(line if signer else f"{_UNVERIFIED}{line}")


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
        ("supersedes", bundle.supersedes or ""),
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
        *_conditions(manifest.usage),
        *_training(manifest),
        *_privacy(manifest),
        *(("measured", _figure(figure)) for figure in manifest.evaluation),
    ]
    return [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in facts if text]


def _with_contact(manifest: Manifest) -> str:
    provider = manifest.provider
    return f"{provider.name} <{provider.contact}>" if provider.contact else provider.name


def _conditions(usage: Usage) -> list[tuple[str, str]]:
    audience = ""
    if usage.audience is not None:
        count = len(usage.audience)
        audience = f"{count} {'recipient' if count == 1 else 'recipients'} named by the provider, nobody else"
    agreement = "needed before use: content-client verify FILE --accept-terms" if usage.requires_acknowledgement else ""
    return [("addressed to", audience), ("agreement", agreement)]


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
    return [
        ("trained on", f"{data.number_of_images} images, {data.classification}; {data.basis}"),
        ("privacy", card.statement),
        ("epsilon", _epsilon(card.dp)),
        *(_audit(audit) if audit else ()),
    ]


def _audit(audit: MemorisationAudit) -> list[tuple[str, str]]:
    shipped = f"the critic is {'' if audit.critic_shipped else 'not '}in the bundle"
    when = f" on {audit.date} by {audit.tool_version}, {audit.held_out} images held out" if audit.date else ""
    return [
        ("audit", f"{audit.status}{when}; {shipped}"),
        *(("leakage", f"{figure.name} {figure.shown}") for figure in audit.figures or ()),
        ("not measured", "; ".join(audit.not_measured or ())),
        ("loosened", "; ".join(audit.loosened or ())),
        ("accepted", audit.reason or ""),
    ]


def _epsilon(dp: DpStatement) -> str:
    if not dp.applied:
        return "not applicable: no differential privacy ran"
    return f"{dp.epsilon:g} at delta {dp.delta:g}, unit {dp.unit}"


def _figure(figure: Figure) -> str:
    value = "not available" if figure.value is None else f"{figure.value:.4g}"
    count = f" over {figure.samples} pictures" if figure.samples else ""
    return f"{figure.metric} {value}{count}{'; ' + figure.note if figure.note else ''}"
