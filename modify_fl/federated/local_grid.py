"""``LocalGrid``: the real strategy against the real ClientApp in one process, through Flower's protobuf (F-34).

Every message becomes bytes and is read again, both ways, so what arrives is what
would arrive over a network. Replies are made one after the other when they are
asked for, so there is never more than one of them in memory.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from modify_fl.federated.compat import (
    APP_FAILED,
    ClientApp,
    Context,
    Error,
    Grid,
    Message,
    ProtoMessage,
    RecordDict,
    Run,
    TaskIdentity,
    message_from_proto,
    message_to_proto,
)

__all__ = ["Carried", "LocalGrid"]

_RUN = 1


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A message on its way, as bytes."""

    way: Literal["down", "up"]
    """From the coordinator, or from a site."""
    node: int
    """The site."""
    data: bytes
    """All of it, as Flower writes it."""


class LocalGrid(Grid):
    """A grid whose nodes are functions of this process."""

    def __init__(
        self, app: ClientApp, nodes: Sequence[int], *, configs: Mapping[int, Mapping[str, str | int]] | None = None,
        watch: Callable[[Carried], None] = lambda _: None, before: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """Connect nodes.

        Args:
            app: Answers for all of them.
            nodes: Their ids.
            configs: What each node's owner told it (``node_config``).
            watch: Sees everything that is carried.
            before: Called before a node is given a message; raising ends the run.
        """
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = _RUN
        self._app, self._nodes, self._watch, self._before = app, tuple(nodes), watch, before
        self._configs = configs or {}
        self._replies: dict[str, Message] = {}
        self._contexts = {
            node: Context(_RUN, node, dict(self._configs.get(node, {})), RecordDict(), {}) for node in self._nodes
        }

    # What a test may change -------------------------------------------------------

    def online(self) -> Iterable[int]:
        """Return the nodes that are connected now."""
        return self._nodes

    def disturb(self, reply: Message) -> Iterable[Message]:
        """Return what arrives in place of a reply."""
        return (reply,)

    # Grid -----------------------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """There is one run; nothing is set."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(_RUN)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:  # fmt: skip
        """Return a message; strategies make their own."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are connected now."""
        return list(self.online())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let every node answer at once; return the ids of the messages."""
        sent = list(messages)
        for message in sent:
            for reply in self._answers(message):
                self._replies[message.metadata.message_id] = reply
        return [message.metadata.message_id for message in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that there are; each is given out once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Yield replies as nodes make them; one that took longer than ``timeout`` seconds is lost."""
        for message in messages:
            start = time.monotonic()
            replies = self._answers(message)
            if timeout is None or time.monotonic() - start <= timeout:
                yield from replies

    def _answers(self, message: Message) -> list[Message]:
        node = message.metadata.dst_node_id
        if node not in self.online():
            return []
        self._before(node)
        message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        reply = self._handle(self._carried("down", node, message), node)
        reply.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        return list(self.disturb(self._carried("up", node, reply)))

    def _handle(self, message: Message, node: int) -> Message:
        """Do what a SuperNode does, with an exception as it would travel; a context lives as long as a run."""
        try:
            return self._app(message, self._contexts[node])
        except Exception as error:
            if getattr(error, "exit_code", 0) == 130:  # the user at this machine wants to stop
                raise
            return Message(Error(code=APP_FAILED, reason=f"{type(error)}:<'{error}'>"), reply_to=message)

    def _carried(self, way: Literal["down", "up"], node: int, message: Message) -> Message:
        data = message_to_proto(message).SerializeToString()
        self._watch(Carried(way=way, node=node, data=data))
        return message_from_proto(ProtoMessage.FromString(data))
