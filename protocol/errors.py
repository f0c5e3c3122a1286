"""The root of the error tree, and its protocol branch.

::

    Error                              exit 1   root of everything raised on purpose
    └── ProtocolError                  exit 4   bundles, keys, trust
        ├── MalformedBundleError       exit 3   not a bundle, or not in canonical form
        ├── UnsupportedVersionError    exit 3   well formed, but newer than this reader
        ├── VerificationError          exit 4   signature or contents wrong
        │   ├── DigestMismatchError    exit 4   a member is not the one that was signed
        │   ├── UntrustedKeyError      exit 5   signer not pinned, or not for this
        │   └── PolicyError            exit 6   genuine, and still not acceptable
        │       └── RollbackError      exit 6   older than something seen before
        ├── TensorError                exit 7   tensor table, values or self-test
        ├── KeyFileError               exit 8   key file or decryption
        ├── StorageError               exit 9   cannot read or write
        └── EnvironmentMissingError    exit 12  a needed package is not installed

Rules kept here: every code of B-45 is one row of ``CODES``, which names its
class, its sentence and its hint; exit codes are those of U-43; messages are
lower case without a full stop, and what to do stands in ``fix`` (U-44).
"""

from dataclasses import dataclass

__all__ = [
    "CODES",
    "CodeRow",
    "DigestMismatchError",
    "EnvironmentMissingError",
    "Error",
    "KeyFileError",
    "MalformedBundleError",
    "PolicyError",
    "ProtocolError",
    "RollbackError",
    "StorageError",
    "TensorError",
    "UnsupportedVersionError",
    "UntrustedKeyError",
    "VerificationError",
    "problem",
]


class Error(Exception):
    """Something failed for a reason that the user can be told."""

    code: str = "E_INTERNAL"
    exit_code: int = 1
    hint: str = "run again with --debug and report what it prints"

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        fix: str = "",
        code: str | None = None,
        step: int | None = None,
        member: str | None = None,
        expected: str | None = None,
        got: str | None = None,
    ) -> None:
        """Keep what a message is made of, as attributes of the same names.

        Args:
            what: What failed, one sentence, lower case, no full stop.
            why: The cause, if it is not clear from ``what``.
            fix: What to do, best a command; the hint of the code when empty.
            code: Stable machine-readable name; the class's own when omitted.
            step: Number of the verification step (B-25), if it happened in one.
            member: Name of the bundle member concerned.
            expected: What should have been there.
            got: What was there.
        """
        super().__init__(what)
        self.what = what
        self.why = why
        if code is not None:
            self.code = code
        row = CODES.get(self.code)
        self.fix = fix or (row.hint if row else self.hint)
        self.step = step
        self.member = member
        self.expected = expected
        self.got = got


class ProtocolError(Error):
    """Base class of everything ``protocol`` raises on purpose."""

    code = "E_PROTOCOL"
    exit_code = 4
    hint = "do not use the file"


class MalformedBundleError(ProtocolError):
    """The file is not a bundle, or not in canonical form."""

    code = "E_CONTAINER"
    exit_code = 3


class UnsupportedVersionError(ProtocolError):
    """The file is well formed but needs a newer reader."""

    code = "E_VERSION"
    exit_code = 3


class VerificationError(ProtocolError):
    """The signature or the signed contents are wrong."""

    code = "E_SIG_BAD"
    exit_code = 4


class DigestMismatchError(VerificationError):
    """A member is not the one that was signed."""

    code = "E_DIGEST"
    exit_code = 4


class UntrustedKeyError(VerificationError):
    """The signer is not pinned, or not for this purpose."""

    code = "E_UNTRUSTED"
    exit_code = 5


class PolicyError(VerificationError):
    """The file is genuine and still not acceptable."""

    code = "E_EXPIRED"
    exit_code = 6


class RollbackError(PolicyError):
    """The file is older than, or contradicts, something seen before."""

    code = "E_ROLLBACK"
    exit_code = 6


class TensorError(ProtocolError):
    """A tensor table, a tensor value or the self-test is wrong."""

    code = "E_TENSOR_HEADER"
    exit_code = 7


class KeyFileError(ProtocolError):
    """A key file cannot be used, or a ciphertext cannot be opened."""

    code = "E_KEYFILE"
    exit_code = 8


class StorageError(ProtocolError):
    """A file cannot be read or written."""

    code = "E_IO"
    exit_code = 9


class EnvironmentMissingError(ProtocolError):
    """A package that this operation needs is not installed."""

    code = "E_NO_AGE"
    exit_code = 12


@dataclass(frozen=True)
class CodeRow:
    """One row of the table of B-45."""

    kind: type[ProtocolError]
    """Class of the exception; it owns the exit code."""
    sentence: str
    """Template of ``what``; may use ``{detail}``, ``{member}``, ``{expected}``, ``{got}``."""
    hint: str
    """What to do when the raiser has no better advice."""


_ASK = "ask the provider for a new file"
_DROP = "do not use the file"
_HOSTILE = "the file may be hostile"
_NEWER = "get a newer bundle, or run content-client trust update"
_CHANNEL = "ask the provider by another channel"
_AGAIN = "fetch it again"

CODES: dict[str, CodeRow] = {
    "E_FORMAT": CodeRow(
        MalformedBundleError,
        "not a bundle: unknown first bytes",
        "check the download; armoured files are not accepted",
    ),
    "E_TRUNCATED": CodeRow(MalformedBundleError, "file ends early or has bytes after its end", _AGAIN),
    "E_CONTAINER": CodeRow(
        MalformedBundleError,
        "archive is not in canonical form: {detail}",
        "repack with style-provider package",
    ),
    "E_MEMBER_NAME": CodeRow(MalformedBundleError, "member name not allowed: {member}", _HOSTILE),
    "E_MEMBER_TYPE": CodeRow(MalformedBundleError, "member type not allowed: {member}", _HOSTILE),
    "E_JSON": CodeRow(MalformedBundleError, "{member} is not strict JSON: {detail}", _ASK),
    "E_MANIFEST": CodeRow(MalformedBundleError, "{member} disagrees with {detail}", _ASK),
    "E_VERSION": CodeRow(
        UnsupportedVersionError,
        "format version or critical feature not supported: {got}",
        "update modify-fl",
    ),
    "E_UNSIGNED": CodeRow(VerificationError, "no signature", "ask for a signed bundle"),
    "E_SIG_FORMAT": CodeRow(VerificationError, "signature record malformed: {detail}", "ask for a signed bundle"),
    "E_SIG_BAD": CodeRow(VerificationError, "signature does not match", _DROP),
    "E_STATEMENT": CodeRow(VerificationError, "signed statement breaks rule {detail}", _DROP),
    "E_UNSIGNED_MEMBER": CodeRow(VerificationError, "member not covered by the signature: {member}", _DROP),
    "E_MISSING_MEMBER": CodeRow(VerificationError, "member missing: {member}", _DROP),
    "E_DIGEST": CodeRow(
        DigestMismatchError,
        "contents of {member} were changed",
        "fetch it again, then tell the provider",
    ),
    "E_UNTRUSTED": CodeRow(
        UntrustedKeyError,
        "signer not pinned",
        "compare the fingerprint with the provider by another channel, then run content-client trust add",
    ),
    "E_PROVIDER_MISMATCH": CodeRow(
        UntrustedKeyError,
        "bundle names {got}, key belongs to {expected}",
        "treat as an impostor",
    ),
    "E_KEY_TYPE": CodeRow(UntrustedKeyError, "key is not P-256", "check which key file was pinned"),
    "E_KEY_ROLE": CodeRow(UntrustedKeyError, "key may not sign this kind", "check which key file was pinned"),
    "E_KEY_EXPIRED": CodeRow(PolicyError, "signing key expired", _NEWER),
    "E_KEY_RETIRED": CodeRow(PolicyError, "signing key replaced", _NEWER),
    "E_KEY_REVOKED": CodeRow(PolicyError, "signing key revoked", _NEWER),
    "E_KEY_CHAIN": CodeRow(UntrustedKeyError, "new key not endorsed by the pinned one", _CHANNEL),
    "E_KEY_FORK": CodeRow(UntrustedKeyError, "second key with this serial", _CHANNEL),
    "E_EXPIRED": CodeRow(PolicyError, "expired: {detail}", "check the clock; get a newer bundle"),
    "E_NOT_YET_VALID": CodeRow(PolicyError, "not valid yet: {detail}", "check the clock; get a newer bundle"),
    "E_ROLLBACK": CodeRow(RollbackError, "older than sequence {expected} seen before", "tell the provider"),
    "E_EQUIVOCATION": CodeRow(RollbackError, "different from sequence {expected} seen before", "tell the provider"),
    "E_BUNDLE_REVOKED": CodeRow(PolicyError, "bundle withdrawn: {detail}", "use the successor"),
    "E_REVOCATION_ROLLBACK": CodeRow(RollbackError, "revocation list older than the stored one", "use the newer list"),
    "E_AUDIENCE": CodeRow(PolicyError, "not addressed to you", "see content-client inspect"),
    "E_USAGE": CodeRow(PolicyError, "terms not acknowledged", "see content-client inspect"),
    "E_BASE": CodeRow(
        PolicyError,
        "base bundle missing or different: {detail}",
        "use the adapter with the bundle it was made for; see content-client inspect",
    ),
    "E_LOCAL_ONLY": CodeRow(PolicyError, "weights marked local-only", "export a shareable adapter"),
    "E_LINT": CodeRow(PolicyError, "private detail found in {member}: {detail}", "clean it"),
    "E_TENSOR_HEADER": CodeRow(TensorError, "tensor table of {member} malformed: {detail}", _DROP),
    "E_TENSOR_SHAPE": CodeRow(TensorError, "tensor table of {member} different: {detail}", _DROP),
    "E_TENSOR_VALUE": CodeRow(TensorError, "tensor in {member} not finite or too large: {detail}", _DROP),
    "E_SELFTEST": CodeRow(
        TensorError,
        "model output differs from the provider's self-test",
        "report versions and device",
    ),
    "E_NOT_RECIPIENT": CodeRow(KeyFileError, "not encrypted to your key", "send your age1... line to the provider"),
    "E_DECRYPT": CodeRow(KeyFileError, "ciphertext damaged", _AGAIN),
    "E_NO_AGE": CodeRow(EnvironmentMissingError, "pyrage is not installed", "pip install pyrage"),
    "E_KEYFILE": CodeRow(KeyFileError, "cannot use key file: {detail}", "run chmod 600 on the file and try again"),
    "E_IO": CodeRow(StorageError, "cannot read or write: {detail}", "free space; nothing was changed"),
}
"""Every code of B-45."""


def problem(
    code: str,
    *,
    detail: str = "",
    why: str = "",
    fix: str = "",
    member: str | None = None,
    expected: str | None = None,
    got: str | None = None,
) -> ProtocolError:
    """Return the exception of ``code``, its sentence filled in, ready to be raised.

    Args:
        code: A key of ``CODES``.
        detail: Filled into the sentence where it asks for one.
        why: The cause, if the sentence does not give it.
        fix: What to do; the hint of the row when empty.
        member: Name of the bundle member concerned.
        expected: What should have been there.
        got: What was there.

    Raises:
        KeyError: ``code`` is not in the table (a defect of the caller).
    """
    row = CODES[code]
    what = row.sentence.format(detail=detail, member=member, expected=expected, got=got)
    return row.kind(what, why=why, fix=fix, code=code, member=member, expected=expected, got=got)
