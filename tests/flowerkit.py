"""Flower's own parts, as tests of a deployment need them: the inside of a SuperNode, and apps of a stranger."""

import hashlib
import os
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from modify_fl.federated.environment import FLOWER_ENVIRONMENT, set_environment
from modify_fl.federated.processes import child_environment, free_port

_NODE = 7

PROJECT = """
[project]
name = "stranger"
version = "1.0.0"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41,<1.42"]
[tool.flwr.app]
publisher = "stranger"
fab-format-version = 1
flwr-version-target = "1.41.0"
fab-include = ["stranger/**/*.py", "LICENSE"]
[tool.flwr.app.components]
serverapp = "stranger.app:server"
clientapp = "stranger.app:client"
[tool.flwr.app.config]
"""

HOSTILE = """
from pathlib import Path
Path({marker!r}).write_text("executed")
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
client, server = ClientApp(), ServerApp()
"""


def hostile_fab(folder: Path, marker: Path) -> bytes:
    """Build an app whose modules write ``marker`` as soon as they are imported."""
    set_environment()
    from modify_fl.federated.compat import build_fab

    (folder / "stranger").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "LICENSE").write_text("none\n")
    (folder / "stranger" / "__init__.py").touch()
    (folder / "stranger" / "app.py").write_text(HOSTILE.format(marker=str(marker)))
    return build_fab(folder)


def unpacked(fab: bytes) -> list[str]:
    """The names of the files in an archive."""
    return zipfile.ZipFile(BytesIO(fab)).namelist()


@dataclass
class Node:
    """The inside of a SuperNode: what its Runtime API serves to ``flwr-clientapp``, and what came back."""

    address: str
    state: Any
    store: Any
    runs: int = 0
    output: str = ""

    def ask(
        self, fab: bytes, content: Any, *, programs: Path, home: Path, timeout: float = 600.0,
        until: Callable[[], bool] | None = None,
    ) -> Any:  # fmt: skip
        """Let ``flwr-clientapp`` of ``programs`` answer a train message, as a SuperExec would start it.

        It is killed once ``until`` holds.
        """
        token = self._put(fab, content)
        words = ["flwr-clientapp", "--runtime-api-address", self.address, "--token", token, "--insecure"]
        environment = child_environment(home, programs)
        process = subprocess.Popen(
            [str(programs / words[0]), *words[1:]], env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        while until is not None and process.poll() is None and not until():
            time.sleep(0.02)
        if until is not None:
            process.kill()
        self.output = process.communicate(timeout=timeout)[0]
        return self._reply()

    def _put(self, fab: bytes, content: Any) -> str:
        """Store run, archive and message as a SuperNode does after it has pulled them, and claim the task."""
        from flwr.app import Context, Message, MessageType, RecordDict
        from flwr.app.message import remove_content_from_message
        from flwr.supercore.constant import TaskType
        from flwr.supercore.corestate import in_memory_corestate
        from flwr.supercore.fab import Fab
        from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
        from flwr.supercore.run import Run
        from flwr.supercore.task_identity import TaskIdentity

        self.runs += 1
        run, digest = Run.create_empty(self.runs), hashlib.sha256(fab).hexdigest()
        run.fab_hash, run.series_id = digest, self.runs
        TaskIdentity.run_id = TaskIdentity.task_id = self.runs
        TaskIdentity.node_id = _NODE
        message = Message(content, _NODE, MessageType.TRAIN, group_id="1")
        message.metadata.__dict__["_run_id"] = self.runs
        message.metadata.__dict__["_message_id"] = message.object_id
        context = Context(self.runs, _NODE, {}, RecordDict(), {}, self.runs)
        self.state.set_run_series_context(self.runs, context)
        self.state.store_run(run)
        self.state.store_fab(Fab(digest, fab, {}))
        in_memory_corestate.HEARTBEAT_DEFAULT_INTERVAL = 600  # a machine under load may take long to start a process
        task = self.state.create_task(TaskType.CLIENT_APP, self.runs, fab_hash=digest)
        self.store.preregister(self.runs, get_object_tree(message))
        for name, item in get_all_nested_objects(message).items():
            self.store.put(name, item.deflate())
        self.state.store_message(remove_content_from_message(message))
        return str(self.state.claim_task(task))

    def _reply(self) -> Any:
        """Return the reply, put together from what was pushed; nothing where none came."""
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

        found = self.state.get_messages_legacy(run_ids=[self.runs], is_reply=True)
        if not found:
            return None
        head = found[0]
        if head.has_error():
            return head
        tree = self.store.get_object_tree(head.metadata.message_id)
        objects = {name: self.store.get(name) for name in _names(tree)}
        return inflate_object_from_contents(head.metadata.message_id, objects, keep_object_contents=True)


def _names(tree: Any) -> Iterator[str]:
    yield tree.object_id
    for child in tree.children:
        yield from _names(child)


@contextmanager
def running_node() -> Iterator[Node]:
    """Serve the Runtime API of a SuperNode on loopback for the length of a block."""
    os.environ.update(FLOWER_ENVIRONMENT)
    import uvicorn
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.supernode.main import create_app
    from flwr.supernode.nodestate import NodeStateFactory

    port, stores = free_port(), ObjectStoreFactory()
    states = NodeStateFactory(objectstore_factory=stores)
    states.state().set_node_id(_NODE)
    config = uvicorn.Config(create_app(states), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield Node(address=f"127.0.0.1:{port}", state=states.state(), store=stores.store())
    finally:
        server.should_exit = True
        thread.join()
