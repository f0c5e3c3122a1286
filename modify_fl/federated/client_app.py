"""The ClientApp: unpack, let the site answer, pack; and one word where it does not (F-11, F-14).

Whatever goes wrong on a site, its coordinator reads a word of a fixed list. The
exception itself, which may name files or numbers, goes to the log of the site.
"""

import logging
from collections.abc import Callable

from modify_fl.errors import InterruptedRunError
from modify_fl.federated.compat import APP_FAILED, ClientApp, Context, Error, Message
from modify_fl.federated.records import RefusedError
from modify_fl.federated.secagg import answer_masked
from modify_fl.federated.site import Site
from modify_fl.privacy.release import failure

__all__ = ["Complain", "make_client_app", "refusal"]

Complain = Callable[[Exception], None]
"""Told on the site what really went wrong."""

_logger = logging.getLogger(__name__)


def make_client_app(find: Callable[[Context], Site], complain: Complain | None = None) -> ClientApp:
    """Return the ClientApp of one or several sites.

    Args:
        find: Returns the site of a context; nothing in the context may choose what it reads (F-10).
        complain: Told about every exception; the site's log when omitted.
    """
    app, tell = ClientApp(), complain or _log

    def scrub(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        """Let no exception through but the wish of the user at this machine to stop."""
        try:
            return call_next(message, context)
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it stays here (F-11)
            tell(error)
            return refusal(error, message)

    @app.train(mods=[scrub])
    def train(message: Message, context: Context) -> Message:
        site = find(context)

        def answer(sent: Message, _: Context) -> Message:
            return Message(site.answer(sent.content), reply_to=sent)

        if site.plan.secagg:
            return answer_masked(message, context, answer, plan=site.plan, floors=site.floors)
        return answer(message, context)

    for other in (app.evaluate, app.query):

        @other(mods=[scrub])
        def refuse(message: Message, context: Context) -> Message:  # noqa: ARG001 - whatever is asked
            raise RefusedError("policy", f"a message of type {message.metadata.message_type}")

    return app


def refusal(error: Exception, message: Message) -> Message:
    """Return the reply to ``message`` that says in one word why there is no other."""
    word = error.word if isinstance(error, RefusedError) else failure(error)
    return Message(Error(code=APP_FAILED, reason=word), reply_to=message)


def _log(error: Exception) -> None:
    _logger.error("no reply to a round: %s", error, exc_info=error)
