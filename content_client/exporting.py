"""A verified style, and an adapter for it, as a file that other programs read or others may have (U-19, P-39).

Rules kept here: both files are verified as for every other use; weights that were
trained on photos without differential privacy go out only with a reason, which
enters the file together with ``guarantee: none``; the provider's terms go along;
no path, no time, no name of this machine or its user.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from content_client.identity import adapter_identity, sharing_advice
from modify_fl.bundle import load_adapter, load_style
from modify_fl.console import Console
from modify_fl.errors import ConfigError
from modify_fl.onnx import onnx_bytes, require_onnx
from modify_fl.outputs import make_folder
from modify_fl.passphrase import Ask
from modify_fl.privacy.release import record_unprotected, write_unprotected
from protocol.encryption import Identity
from protocol.errors import problem
from protocol.lint import lint_texts
from protocol.manifest import Manifest
from protocol.storage import atomic_writer
from protocol.trust import TrustStore
from protocol.verified import VerifiedBundle, check_base
from protocol.verify import open_bundle

__all__ = ["Export"]

_OPTION = "--release-unprotected"
_REASON_MAX = 200
_NOTHING_GUARANTEED = "the file holds weights trained on photos, and nothing is guaranteed about what they show"


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is to be written, and from what."""

    bundle: Path
    """The style, a ``.mdfy`` file."""
    adapter: Path | None
    """An adapter for it, a ``.mdfa`` file."""
    out: Path
    """The ONNX file."""
    seeds: range
    """Numbers of the styles whose noise goes along."""
    reason: str | None
    """Why weights without a guarantee may go out (P-39)."""
    photos: Path | None
    """What the adapter was trained on; their ledger must know (P-39)."""
    identity: Identity | None
    """The user's own age identity."""
    overwrite: bool
    """Whether an existing file is replaced."""

    def run(self, console: Console, *, dry_run: bool) -> Mapping[str, object]:
        """Verify, and write the file unless ``dry_run``; return the result of the command.

        Raises:
            ConfigError: A reason was given where none is needed, or it is no line of text.
            PolicyError: E_LOCAL_ONLY, a reason is needed (P-39); E_LINT, it holds a
                private detail.
            MissingPackageError: The extra ``onnx`` is not installed.
            ProtocolError: Verification failed, or the file cannot be written.
        """
        require_onnx()
        with ExitStack() as stack:
            style = stack.enter_context(self._open(self.bundle))
            adapter = stack.enter_context(self._open(self.adapter)) if self.adapter else None
            for warning in dict.fromkeys([*style.warnings, *(adapter.warnings if adapter else ())]):
                console.warn(warning)
            if adapter:
                check_base(adapter, style)
            facts = _facts(style, adapter.manifest if adapter else None, self.reason)
            plan = {
                "out": self.out, "bundle": style.payload_digest, "adapter": self.adapter is not None,
                "styles": list(self.seeds), "guarantee": facts.get("guarantee"), "licence": facts["licence"],
                "prohibited": list(style.manifest.usage.prohibited),
            }  # fmt: skip
            if dry_run:
                return self._plan(console, plan)
            loaded = load_style(style)
            encoder = load_adapter(adapter, loaded) if adapter else None
        console.note("building the graph; this takes a while")
        content = onnx_bytes(loaded, encoder, seeds=self.seeds, facts=facts)
        make_folder(self.out.parent)
        if "guarantee" in facts:
            record_unprotected(facts["release_reason"], self.photos)
        with atomic_writer(self.out, overwrite=self.overwrite) as stream:
            stream.write(content)
        self._report(console, style.manifest, facts, len(content))
        return {**plan, "bytes": len(content)}

    def _open(self, path: Path) -> VerifiedBundle:
        return open_bundle(path, trust=TrustStore.default(), now=datetime.now(UTC), identity=self.identity)

    def share(self, console: Console, *, ask: Ask, dry_run: bool) -> Mapping[str, object]:
        """Sign the adapter again as one that may be given away, and return the result of the command (P-39).

        Raises:
            ConfigError: There is no adapter, it may leave as it is, or it is not said which
                photos it was trained on.
            PolicyError: E_LOCAL_ONLY, a reason is needed; E_LINT, it holds a private detail.
            ProtocolError: Verification failed, or the file cannot be written.
        """
        if self.adapter is None:
            raise ConfigError("there is no adapter to share", fix="name it with --adapter FILE")
        with self._open(self.bundle) as style, self._open(self.adapter) as adapter:
            check_base(adapter, style)
            reason = _reason(self.reason)
            plan = {"out": self.out, "bundle": style.payload_digest, "guarantee": "none"}
            if dry_run:
                return self._plan(console, plan)
            key, provider = adapter_identity(TrustStore.default(), ask)
            make_folder(self.out.parent)
            made = write_unprotected(
                self.out, adapter, reason=reason, photos=self.photos, key=key, provider=provider,
                overwrite=self.overwrite,
            )  # fmt: skip
        console.say(f"wrote {self.out}, signed by this computer; who gets it needs your adapter key, and the style")
        for line in sharing_advice(provider):
            console.say(line)
        console.warn(_NOTHING_GUARANTEED)
        return {**plan, "release": made.release, "digest": made.digest}

    def _plan(self, console: Console, plan: Mapping[str, object]) -> Mapping[str, object]:
        noise = f" with the noise of {len(self.seeds)} styles" if "styles" in plan else ""
        console.say(f"would write {self.out}{noise}")
        console.say(f"weights trained on photos go along: {'yes' if self.adapter else 'no'}")
        return plan

    def _report(self, console: Console, manifest: Manifest, facts: Mapping[str, str], size: int) -> None:
        console.say(f"wrote {self.out} ({size / 1e6:.1f} MB)")
        console.say("inputs   photo [B, 3, R, R], z [B, Z], strength; output painted [B, 3, R, R]")
        console.say(f"styles   {self.seeds[0]} to {self.seeds[-1]} have their z in the metadata")
        console.say(f"licence  {facts['licence']}")
        for use in manifest.usage.prohibited:
            console.say(f"prohibited by the provider: {use}")
        if manifest.usage.audience is not None:
            console.warn("this style was addressed to certain recipients; the ONNX file is not encrypted: keep it")
        if "guarantee" in facts:
            console.warn(_NOTHING_GUARANTEED)


def _facts(style: VerifiedBundle, adapter: Manifest | None, reason: str | None) -> dict[str, str]:
    """Return the metadata of the file."""
    manifest = style.manifest
    facts = {
        "modify-fl": version("modify-fl"), "bundle": style.payload_digest, "name": manifest.bundle.name,
        "version": manifest.bundle.version, "provider": manifest.provider.name, "licence": manifest.licence.model,
        "dataset_licence": manifest.licence.dataset, "attribution": manifest.licence.attribution,
        "allowed": json.dumps(manifest.usage.allowed), "prohibited": json.dumps(manifest.usage.prohibited),
        "privacy": manifest.privacy.statement,
    }  # fmt: skip
    return facts | _release(adapter, reason)


def _release(adapter: Manifest | None, reason: str | None) -> dict[str, str]:
    """Decide whether weights trained on photos may go out, and return what is said about them (P-39)."""
    free = adapter is None or (adapter.privacy.dp.applied and adapter.release != "local-only")
    if free and reason is not None:
        why = "no weights without a guarantee about photos would go out"
        raise ConfigError(f"{_OPTION} is not needed", why=why, fix="leave it out")
    if adapter is None:
        return {}
    said = {"adapter_privacy": adapter.privacy.statement}
    if free:
        return said
    return said | {"guarantee": "none", "release_reason": _reason(reason)}


def _reason(reason: str | None) -> str:
    if reason is None:
        raise problem(
            "E_LOCAL_ONLY",
            why="the adapter was trained on photos without differential privacy, and may show traces of them",
            fix=f'keep the adapter here, or add {_OPTION} "REASON"; the reason enters the file',
        )
    return _checked(reason)


def _checked(reason: str) -> str:
    if not (reason.strip() and reason.isprintable() and len(reason) <= _REASON_MAX):
        raise ConfigError(
            f"the reason of {_OPTION} is no line of text", expected=f"1 to {_REASON_MAX} printable characters",
            got=f"{len(reason)} characters", fix="say in one line why these weights may go out",
        )  # fmt: skip
    lint_texts({_OPTION: reason})
    return reason
