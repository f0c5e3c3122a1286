"""A site in a federation: a SuperNode that runs installed code only, until it is told to leave (F-8, F-26, F-27).

The SuperNode is started anew when it ends, unless the coordinator has refused it:
a coordinator that comes back after a crash finds its sites (F-23).
"""

import re
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass

from content_client.federation.enrolment import Checked
from modify_fl.console import Console
from modify_fl.errors import FederationPolicyError, FederationSetupError, PrivacyBudgetError
from modify_fl.federated.certificates import CA
from modify_fl.federated.environment import set_environment
from modify_fl.federated.holder import held
from modify_fl.federated.journal import Entry, append, read_journal
from modify_fl.federated.processes import Child, child_environment, free_port, python_words, start, tail, write_programs
from modify_fl.federated.site_folder import SITE_VARIABLE, SiteFolder
from modify_fl.federated.site_keys import SITE_KEY

__all__ = ["join", "write_shim"]

_LOG = "supernode.log"
_PAUSE, _AGAIN = 1.0, 5.0
_FLOWER = "modify_fl.federated.flower_process"
_FINAL = ("max_rounds", "privacy.eps_max")  # of the policy: once they are reached, every later round is refused
_STRANGER = "the coordinator does not know this site's key"
# What Flower prints when a SuperLink does not want a site, and what that means to its owner.
_REFUSALS = (
    (re.compile(r"certificate verify failed|SSL/TLS handshake error", re.IGNORECASE),
     "the coordinator's certificate is not vouched for by the kit",
     "compare the digest of the kit with the coordinator, or ask for the kit again"),
    (re.compile(r"code: 200[0-9]\]|401 Unauthorized|Invalid SuperNode authentication"),
     _STRANGER,
     ("send site.pub to the coordinator, and wait until it was put into the folder of sites; a site that was "
     "connected until now waits a minute, until the coordinator has missed it")),
)  # fmt: skip


@dataclass
class _Watch:
    """What was told so far, and since when the coordinator is gone."""

    lines: int
    gone_since: float | None = None
    let_in: bool = False
    """Whether the coordinator knew this site once: then only time keeps it from connecting again."""


def join(checked: Checked, console: Console, *, once: bool) -> Mapping[str, object]:
    """Take part until the last round was answered, or until somebody says leave.

    Args:
        checked: Site, kit, policy, bundle and photos, which fit together.
        console: Shows what happens.
        once: Do not start the SuperNode again when it ends.

    Raises:
        FederationSetupError: The coordinator refuses this site, is gone for good, or
            Flower is not the version this package knows.
        ConfigError: The site has joined already.
    """
    set_environment()
    from modify_fl.federated import compat  # noqa: PLC0415 - after the environment (F-4)

    compat.check()
    site = checked.site
    with held(site.path, fix=f"run content-client federate leave --site {shlex.quote(str(site.path))}"):
        site.write_settings(checked.settings)
        write_shim(site)
        append(site.journal, "joined", coordinator=checked.kit.file.address, bundle=checked.kit.plan.bundle,
               fab_sha256=checked.kit.plan.fab_sha256)  # fmt: skip
        watch = _Watch(lines=len(read_journal(site.journal)))
        try:
            _take_part(checked, watch, console, once=once)
        finally:
            append(site.journal, "left")
    return {"site": site.path, "rounds": _answered(site)}


def write_shim(site: SiteFolder) -> None:
    """Put the shim where Flower looks for ``flwr-clientapp``, and make sure that it finds nothing else (F-8)."""
    write_programs(
        site.programs,
        {
            "flower-superexec": python_words(_FLOWER, "superexec"),
            "flwr-clientapp": python_words("content_client.federation.launcher", str(site.path)),
        },
    )
    found = shutil.which("flwr-clientapp", path=str(site.programs))
    if found != str(site.programs / "flwr-clientapp"):
        raise FederationSetupError("the shim cannot be run", why=f"{site.programs} does not allow programs",
                                   fix="choose a folder on another file system")  # fmt: skip


def _take_part(checked: Checked, watch: _Watch, console: Console, *, once: bool) -> None:
    while True:
        child = _start(checked)
        try:
            console.note(f"waiting for {checked.kit.file.address}; to end this, press Ctrl-C or run "
                         f"content-client federate leave --site {shlex.quote(str(checked.site.path))}")  # fmt: skip
            while child.alive:
                time.sleep(_PAUSE)
                _end_where_refused(_tell(checked.site, watch, console))
                if _is_over(checked, watch, child):
                    return
        finally:
            child.end()
        _end_where_refused(_tell(checked.site, watch, console))
        _explain(child, checked, watch)
        if once:
            raise FederationSetupError("the SuperNode ended", why=f"exit {child.process.returncode}",
                                       fix=f"read {child.log}")  # fmt: skip
        time.sleep(_AGAIN)


def _start(checked: Checked) -> Child:
    site, kit = checked.site, checked.kit
    words = python_words(
        _FLOWER, "supernode", "--superlink", kit.file.address, "--root-certificates", str(kit.folder / CA),
        "--auth-supernode-private-key", str(site.path / SITE_KEY), "--host", "127.0.0.1", "--port", str(free_port()),
    )  # fmt: skip
    environment = child_environment(site.home, site.programs, {SITE_VARIABLE: str(site.path)})
    log = site.path / _LOG
    log.unlink(missing_ok=True)
    return start("the SuperNode", words, environment=environment, log=log, cwd=site.path)


def _tell(site: SiteFolder, watch: _Watch, console: Console) -> tuple[Entry, ...]:
    """Show the new lines of the audit log, and return them."""
    entries = read_journal(site.journal)
    fresh = entries[watch.lines :]
    for entry in fresh:
        facts = ", ".join(f"{name} {value}" for name, value in entry.facts.items() if name not in {"run", "bundle"})
        (console.warn if entry.event in {"refused", "failed"} else console.note)(f"{entry.event}: {facts}")
    watch.lines = len(entries)
    return fresh


def _end_where_refused(entries: tuple[Entry, ...]) -> None:
    """Stop where going on is of no use: the app or the rounds are not allowed, or the budget is spent.

    Raises:
        FederationPolicyError: Exit 6.
        PrivacyBudgetError: Exit 11.
    """
    for entry in entries:
        why = str(entry.facts.get("why"))
        if entry.event == "failed" and entry.facts.get("word") == "budget":
            time.sleep(_AGAIN)  # the coordinator gets its word first
            raise PrivacyBudgetError("the budget of these photos does not allow another round", why=why)
        if entry.event == "refused" or (entry.event == "failed" and any(field in why for field in _FINAL)):
            time.sleep(_AGAIN)
            raise FederationPolicyError("the policy of this site does not allow what the coordinator asks for", why=why)


def _answered(site: SiteFolder) -> list[int]:
    return [int(e.facts["round"]) for e in read_journal(site.journal) if e.event == "answered"]


def _is_over(checked: Checked, watch: _Watch, child: Child) -> bool:
    """Return whether the last round was answered, and the coordinator has been gone for as long as it waits itself.

    No sooner: a coordinator that was killed in the last round repeats it.
    """
    text = tail(child.log)
    connected = max(text.rfind(words) for words in ("Sent successfully", "Connection successful", "SuperNode ID"))
    if text.rfind("Connection attempt failed") < connected or checked.kit.plan.rounds not in _answered(checked.site):
        watch.gone_since = None
        return False
    watch.gone_since = watch.gone_since or time.monotonic()
    return time.monotonic() - watch.gone_since > checked.kit.plan.wait_seconds


def _explain(child: Child, checked: Checked, watch: _Watch) -> None:
    """Raise what the SuperNode's last words mean, where they mean that trying again is of no use.

    A SuperLink gives a SuperNode that was killed up for lost only after two heartbeats,
    and refuses the next one until then in the words it has for strangers.
    """
    text = tail(child.log)
    if "SuperNode ID" in text and "Invalid SuperNode authentication" not in text:
        watch.let_in = True  # whatever ended it, it may try again
        return
    for pattern, why, fix in _REFUSALS:
        if pattern.search(text) and not (watch.let_in and why == _STRANGER):
            raise FederationSetupError(f"{checked.kit.file.address} cannot be joined", why=why, fix=fix)
