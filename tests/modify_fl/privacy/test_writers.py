"""P-36: who writes files at all, and that nobody but the gate makes what may be shared."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[3]
_CALLS = {
    "atomic_writer", "copyfile", "copytree", "fdopen", "memmap", "mkstemp", "move", "NamedTemporaryFile", "save",
    "save_file", "save_png", "SummaryWriter", "TemporaryFile", "tofile", "write_adapter", "write_bundle", "write_bytes",
    "write_text",
}  # fmt: skip
_MODES = set("wax+")

# Every module of the client's side that writes, and why what it writes is no release of photos.
WRITERS = {
    "content_client/adaptation.py": "pictures and local-only adapters, where the user says",
    "content_client/federation/enrolment.py": "the site's own folder: the coordinator's kit, copied",
    "content_client/exporting.py": "a style; weights of photos only with a reason (P-39)",
    "content_client/overview.py": "the contact sheet beside the pictures",
    "content_client/painting.py": "stylized pictures, where the user says: not covered by any claim (P-1)",
    "content_client/private/adaptation.py": "asks the gate",
    "content_client/private/request.py": "id and public numbers of a run, in its private folder",
    "content_client/results.py": "results.jsonl beside the pictures",
    "modify_fl/base/export.py": "a base model, from public faces",
    "modify_fl/bundle/packing.py": "signs what it is given; shareable only with Shared, which the gate makes",
    "modify_fl/data_files.py": "decoded photos in the private cache, taken away after the run",
    "modify_fl/doctor/machine.py": "an empty file, to see whether there is space",
    "modify_fl/faces/decode.py": "save_png itself",
    "modify_fl/federated/certificates.py": "keys and certificates of the coordinator",
    "modify_fl/federated/coordinator_folder.py": "the coordinator's own records",
    "modify_fl/federated/holder.py": "which process holds a folder",
    "modify_fl/federated/journal.py": "the audit log, which stays with its party (F-13)",
    "modify_fl/federated/kit.py": "public numbers and digests",
    "modify_fl/federated/plan.py": "public numbers of a federation",
    "modify_fl/federated/policy.py": "what a site allows",
    "modify_fl/federated/processes.py": "settings and logs of Flower's programs",
    "modify_fl/federated/rounds.py": "hands checkpoints of the mean to training/checkpoint.py",
    "modify_fl/federated/site_folder.py": "the site's own records",
    "modify_fl/federated/site_keys.py": "keys of a site",
    "modify_fl/metrics/inception.py": "a network for figures, converted",
    "modify_fl/networks/checkpoints.py": "converted checkpoints of other projects",
    "modify_fl/photo.py": "a stylized picture, where the user says",
    "modify_fl/pretrained/fetch.py": "public networks of others, below TORCH_HOME",
    "modify_fl/privacy/fingerprints.py": "keyed fingerprints, in the vault's private folder",
    "modify_fl/privacy/ledger.py": "the name of the run that holds the vault",
    "modify_fl/privacy/loose.py": "what left of photos without a vault, beside the vaults",
    "modify_fl/privacy/making.py": "hands fingerprints to fingerprints.py",
    "modify_fl/privacy/places.py": "ledger and marker",
    "modify_fl/privacy/release.py": "THE GATE",
    "modify_fl/progress.py": "metrics.jsonl in the run's private folder",
    "modify_fl/tensorboard.py": "figures of a run, where the user says",
    "modify_fl/training/checkpoint.py": "checkpoints in the run's private folder",
    "modify_fl/training/diagnostics.py": "sample sheets of stage 1, the provider's",
    "modify_fl/training/loop.py": "hands checkpoints to training/checkpoint.py",
    "modify_fl/training/runs.py": "config.json in the run's private folder",
    "modify_fl/weights.py": "tensors to bytes in memory, no file",
}
_NETWORK = {
    "aiohttp", "ftplib", "grpc", "http", "httpx", "requests", "smtplib", "socket", "ssl", "telnetlib", "urllib.request",
    "urllib3", "websockets", "xmlrpc",
}  # fmt: skip


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("content_client", "modify_fl"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            yield path.relative_to(_ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _writes(call: ast.Call) -> bool:
    name = _name(call)
    if name != "open":
        return name in _CALLS
    texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return any(text and len(text) <= 3 and set(text) & _MODES and set(text) <= set("rwaxbt+") for text in texts)


def _writers(tree: ast.Module) -> set[str]:
    return {_name(node) for node in ast.walk(tree) if isinstance(node, ast.Call) and _writes(node)}


def test_every_module_that_writes_is_known_with_its_reason() -> None:
    assert {name for name, tree in _modules() if _writers(tree)} == set(WRITERS)


@pytest.mark.parametrize(
    "text",
    ["p.write_bytes(x)", "open(p, 'wb')", "p.open('a')", "np.memmap(p)", "torch.save(x, p)", "open(p, mode='r+')"],
)
def test_the_search_finds_a_writer(text: str) -> None:
    assert _writers(ast.parse(text))
    assert not _writers(ast.parse("p.open('rb'); p.read_bytes(); open(p); Style.open(path)"))


def test_nobody_but_the_gate_makes_what_may_be_shared() -> None:
    makers = {
        name
        for name, tree in _modules()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and _name(node) == "Shared")
        or (isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant) and node.value.value == "shareable")
    }
    assert makers == {"modify_fl/privacy/release.py"}


# Asks for public files at the addresses of its own catalogue, on the command `weights fetch` alone, and sends nothing.
_ASKS = "modify_fl/pretrained/download.py"


def test_what_asks_for_public_networks_sends_nothing_and_is_reached_by_one_command() -> None:
    trees = dict(_modules())
    words = {keyword.arg for node in ast.walk(trees[_ASKS]) if isinstance(node, ast.Call) for keyword in node.keywords}
    assert not words & {"data", "method", "body"}
    users = {
        name
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module in {"modify_fl.pretrained.download", "modify_fl.weight_files"}
    }
    assert users == {"modify_fl/pretrained/fetch.py", "modify_fl/weight_commands.py"}


def test_nobody_speaks_to_the_network_but_the_federation() -> None:
    speakers = set()
    for name, tree in _modules():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name == module or name.startswith(f"{module}.") for name in names for module in _NETWORK):
                speakers.add(name)
    assert {name for name in speakers if not name.startswith("modify_fl/federated/")} == {_ASKS}
