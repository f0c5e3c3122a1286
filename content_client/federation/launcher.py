"""What a SuperNode starts in place of ``flwr-clientapp``: the only way to app code on a site (F-8, F-9, F-11).

``content-client federate join`` gives the SuperNode a ``PATH`` on which nothing
else stands. In order: the SHA-256 of the archive that the coordinator sent is
compared with the policy and with the signed bundle; the archive is never unpacked;
the app of the installed package answers; of an exception, one word of a fixed list
leaves. A refusal comes before torch is imported or a photo is opened.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from content_client.identity import own_identity
from modify_fl.errors import DataError, FederationPolicyError, PrivacyBudgetError
from modify_fl.federated.environment import set_environment
from modify_fl.federated.journal import append
from modify_fl.federated.site_folder import SITE_VARIABLE, SiteFolder, check_plan
from protocol.errors import ProtocolError
from protocol.trust import TrustStore
from protocol.verify import verify_bundle

if TYPE_CHECKING:
    from modify_fl.federated.compat import Context, Message

__all__ = ["check_app", "main", "word_of"]

_WORDS = ("train_failed", "data_missing", "budget", "policy", "bundle_mismatch", "busy")
_log = logging.getLogger(__name__)


class _WrongBundleError(FederationPolicyError):
    """The bundle here is not the one of the plan, or does not vouch for the app."""


def main() -> None:
    """Answer one message: ``launcher SITE`` and the words that Flower gives to ``flwr-clientapp``."""
    folder, sys.argv = Path(sys.argv[1]), ["flwr-clientapp", *sys.argv[2:]]
    set_environment()
    os.environ[SITE_VARIABLE] = str(folder)
    from modify_fl.federated import compat  # noqa: PLC0415 - after the environment (F-4)

    compat.guard_clientapp(lambda archive: _choose(SiteFolder(folder), archive))
    compat.flwr_clientapp()


def check_app(site: SiteFolder, digest: str, *, now: datetime) -> None:
    """Refuse an app that is not named by the site's policy and by the signed bundle alike (F-8).

    Args:
        site: The site's folder.
        digest: SHA-256 of the archive.
        now: The time.

    Raises:
        FederationPolicyError: The policy does not allow the app, the bundle, the plan or
            the coordinator, or has expired; or the bundle does not vouch for the app.
        ProtocolError: The bundle is not acceptable.
    """
    policy, kit = site.policy(), site.kit()
    policy.check_valid(now)
    policy.check_app(digest)
    policy.check_coordinator(kit.file.address, kit.file.ca_sha256)
    found = verify_bundle(Path(site.settings().bundle), trust=TrustStore.default(), now=now, identity=_identity())
    policy.check_bundle(found.payload_digest, found.signer.fingerprint)
    federation = found.manifest.federation
    if found.payload_digest != kit.plan.bundle or digest not in (federation.fab_sha256 if federation else ()):
        raise _WrongBundleError("the bundle does not vouch for this app", why=f"its digest is {digest}")
    check_plan(policy, kit.plan)


def _identity() -> Any:  # noqa: ANN401
    return own_identity(None, None, None)


def _choose(site: SiteFolder, archive: bytes) -> Callable[["Message", "Context"], "Message"]:
    """Return what answers: the installed app, or a refusal."""
    digest = hashlib.sha256(archive).hexdigest()
    try:
        check_app(site, digest, now=datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 - whatever it is, the coordinator gets one word
        return _refusal(site, error, digest)
    return _scrubbed(site)


def _refusal(site: SiteFolder, error: Exception, digest: str) -> Callable[["Message", "Context"], "Message"]:
    word = word_of(error)
    append(site.journal, "refused", word=word, why=_reason(error), fab_sha256=digest)
    return lambda message, _: _answer(message, word)


def _scrubbed(site: SiteFolder) -> Callable[["Message", "Context"], "Message"]:
    """Return the installed app; what it raises stays here, and so does what goes wrong around it (F-11)."""

    def answer(message: "Message", context: "Context") -> "Message":
        try:
            from content_client.federation.site import open_site  # noqa: PLC0415 - brings in torch
            from modify_fl.federated.client_app import make_client_app  # noqa: PLC0415

            app = make_client_app(lambda _: open_site(site), lambda error: _complain(site, error))
            return app(message, context)
        except Exception as error:  # noqa: BLE001 - see above
            _complain(site, error)
            return _answer(message, word_of(error))

    return answer


def _complain(site: SiteFolder, error: Exception) -> None:
    _log.error("no answer to this message", exc_info=error)
    append(site.journal, "failed", word=word_of(error), why=_reason(error))


def word_of(error: Exception) -> str:
    """Return all that a coordinator is told about an exception (F-11, P-37)."""
    if isinstance(error, _WrongBundleError | ProtocolError):
        return "bundle_mismatch"
    if isinstance(error, FederationPolicyError):
        return "policy"
    if isinstance(error, PrivacyBudgetError):
        return "budget"
    word = getattr(error, "word", "data_missing" if isinstance(error, DataError) else "")
    return word if word in _WORDS else "train_failed"


def _reason(error: Exception) -> str:
    """Return what the site's own log says."""
    return (getattr(error, "why", "") or str(error) or type(error).__name__).split("\n")[0][:300]


def _answer(message: "Message", word: str) -> "Message":
    from modify_fl.federated.compat import APP_FAILED, Error, Message  # noqa: PLC0415

    return Message(Error(code=APP_FAILED, reason=word), reply_to=message)


if __name__ == "__main__":
    main()
