"""Everything of Flower that this project uses, imported here and nowhere else (F-1, F-2).

Only the Message API is public; the rest of the list below is private to Flower or
kept by it for old programs, and may change with any release. ``check`` compares
version, names and parameters before a command starts (F-3).
"""

import inspect
import logging
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from modify_fl.errors import FederationSetupError
from modify_fl.federated.environment import missing_from_environment
from modify_fl.federated.gate import Gate

if _missing := missing_from_environment():
    raise ImportError(f"Flower is imported only with {', '.join(_missing)} set: call set_environment() first (F-4)")

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore import telemetry
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "APP_FAILED",
    "FLOWER_VERSIONS",
    "Array",
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Error",
    "Grid",
    "Message",
    "MessageType",
    "MetricRecord",
    "ProtoMessage",
    "RecordDict",
    "Result",
    "Run",
    "ServerApp",
    "Strategy",
    "TaskIdentity",
    "build_fab",
    "check",
    "guard_clientapp",
    "guard_serverapp",
    "guard_superlink",
    "message_from_proto",
    "message_to_proto",
    "quiet",
    "set_masks",
]

APP_FAILED: int = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
"""Code of an answer that says why there is none."""
FLOWER_VERSIONS = ">=1.41,<1.42"
"""Versions that were read and tested (F-1)."""

if telemetry.FLWR_TELEMETRY_ENABLED != "0":  # somebody imported it before the environment was set
    raise ImportError("Flower was imported before its telemetry was switched off: call set_environment() first (F-4)")

# Module, name, parameters; where a name is a class, those that make one.
_USED: tuple[tuple[str, str, str], ...] = (
    ("flwr.app", "Message", "args dst_node_id message_type content error ttl group_id dst_task_id reply_to metadata"),
    ("flwr.app", "Error", "code reason"),
    ("flwr.app", "Context", "run_id node_id node_config state run_config series_id"),
    ("flwr.cli.build", "build_fab_from_disk", "app"),
    ("flwr.client.mod", "secaggplus_mod", "msg ctxt call_next"),
    ("flwr.clientapp", "ClientApp", "client_fn mods"),
    ("flwr.common.serde", "message_from_proto", "message_proto"),
    ("flwr.common.serde", "message_to_proto", "message"),
    ("flwr.common.serde", "recorddict_from_proto", "recorddict_proto"),
    ("flwr.common.serde", "recorddict_to_proto", "recorddict"),
    ("flwr.compat.common.recorddict_compat", "fitres_to_recorddict", "fitres keep_input"),
    ("flwr.common.secure_aggregation.secaggplus_utils", "pseudo_rand_gen", "seed num_range dimensions_list"),
    ("flwr.server", "LegacyContext", "context config strategy client_manager"),
    (
        "flwr.server.workflow", "SecAggPlusWorkflow",
        "num_shares reconstruction_threshold max_weight clipping_range quantization_range modulus_range timeout",
    ),
    ("flwr.server.workflow", "SecAggPlusWorkflow.setup_stage", "self grid context state"),
    ("flwr.server.workflow", "SecAggPlusWorkflow.share_keys_stage", "self grid context state"),
    ("flwr.server.workflow", "SecAggPlusWorkflow.collect_masked_vectors_stage", "self grid context state"),
    ("flwr.server.workflow", "SecAggPlusWorkflow.unmask_stage", "self grid context state"),
    (
        "flwr.serverapp.strategy", "Strategy.start",
        "self grid initial_arrays num_rounds timeout train_config evaluate_config evaluate_fn",
    ),
    ("flwr.serverapp", "Grid.send_and_receive", "self messages timeout"),
    ("flwr.serverapp", "Grid.get_node_ids", "self"),
    ("flwr.supercore.app_utils", "start_parent_process_monitor", "parent_pid"),
    ("flwr.supercore.cli.flower_superexec", "flower_superexec", ""),
    ("flwr.supercore.control", "ControlHttpClient.ListNodes", "self request"),
    ("flwr.supercore.control", "ControlHttpClient.ListRuns", "self request"),
    ("flwr.supercore.control", "ControlHttpClient.RegisterNode", "self request"),
    ("flwr.supercore.control", "ControlHttpClient.StartRun", "self request"),
    ("flwr.supercore.control", "ControlHttpClient.StopRun", "self request"),
    (
        "flwr.supercore.control", "ControlHttpClient.from_server_address",
        "server_address insecure root_certificates interceptors retry_invoker",
    ),
    ("flwr.supercore.interceptors", "RuntimeVersionHttpInterceptor", "component_name"),
    ("flwr.supercore.task_identity", "TaskIdentity", ""),
    ("flwr.superlink.cli.flower_superlink", "flower_superlink", ""),
    ("flwr.superlink.cli.flwr_serverapp", "flwr_serverapp", ""),
    ("flwr.superlink.extensions", "get_middleware", ""),
    ("flwr.supernode.cli.flower_supernode", "flower_supernode", ""),
    ("flwr.supernode.cli.flwr_clientapp", "flwr_clientapp", ""),
    ("flwr.supernode.runtime.run_clientapp", "get_load_client_app_fn", "default_app_ref app_path multi_app"),
    ("flwr.supernode.runtime.run_clientapp", "get_project_dir", "fab_id fab_version fab_hash"),
    ("flwr.supernode.runtime.run_clientapp", "install_from_fab", "fab_file install_dir skip_prompt"),
    (
        "flwr.supernode.runtime.run_clientapp", "run_clientapp",
        "runtime_api_address token insecure certificates parent_pid runtime_dependency_install",
    ),
)  # fmt: skip


def check() -> None:
    """Refuse to go on with a Flower that is not the one this package was written for (F-3).

    Raises:
        FederationSetupError: Another version, or a name is gone, or has other parameters (exit 12).
    """
    found = version("flwr")
    if found not in SpecifierSet(FLOWER_VERSIONS):
        raise _drift(f"version {found} is installed, {FLOWER_VERSIONS} is needed")
    for module, name, parameters in _USED:
        if (got := _parameters(module, name)) != parameters:
            raise _drift(f"{module}.{name} takes ({got}), expected ({parameters})")


def _parameters(module: str, name: str) -> str:
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise _drift(f"{module}.{name} is gone") from error
    return " ".join(inspect.signature(found).parameters)


def _drift(why: str) -> FederationSetupError:
    return FederationSetupError(
        "Flower is not the version that this package was written for", why=why,
        fix=f'pip install "flwr{FLOWER_VERSIONS}"',
    )  # fmt: skip


def build_fab(folder: Path) -> bytes:
    """Return the archive of the Flower app in ``folder`` as ``flwr build`` writes it (F-7)."""
    from flwr.cli.build import build_fab_from_disk  # noqa: PLC0415 - brings in Flower's command line

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a library that Flower uses
        return build_fab_from_disk(folder)


def quiet(level: int = logging.ERROR) -> None:
    """Let Flower's own log speak from ``level`` on; what matters is told by this package."""
    logging.getLogger("flwr").setLevel(level)


# Names of a deployment and of masked rounds, looked up when they are used: they bring in web servers, databases,
# Flower's command line and its old programs.
_LATE = {
    "ControlHttpClient": "flwr.supercore.control",
    "Code": "flwr.common",
    "Fab": "flwr.proto.fab_pb2",
    "FitIns": "flwr.common",
    "FitRes": "flwr.common",
    "LegacyContext": "flwr.server",
    "ListNodesRequest": "flwr.proto.control_pb2",
    "ListRunsRequest": "flwr.proto.control_pb2",
    "MAIN_CONFIGS_RECORD": "flwr.server.workflow.constant",
    "MAIN_PARAMS_RECORD": "flwr.server.workflow.constant",
    "Parameters": "flwr.common",
    "RECORD_KEY_CONFIGS": "flwr.common.secure_aggregation.secaggplus_constants",
    "RegisterNodeRequest": "flwr.proto.control_pb2",
    "RuntimeVersionHttpInterceptor": "flwr.supercore.interceptors",
    "SecAggPlusWorkflow": "flwr.server.workflow",
    "SimulationConfig": "flwr.proto.federation_config_pb2",
    "StartRunRequest": "flwr.proto.control_pb2",
    "Status": "flwr.common",
    "StopRunRequest": "flwr.proto.control_pb2",
    "WorkflowState": "flwr.server.workflow.secure_aggregation.secaggplus_workflow",
    "TASK_TYPE_TO_COMMAND": "flwr.supercore.constant",
    "bytes_to_ndarray": "flwr.common",
    "fitres_to_recorddict": "flwr.compat.common.recorddict_compat",
    "flower_superexec": "flwr.supercore.cli.flower_superexec",
    "flower_superlink": "flwr.superlink.cli.flower_superlink",
    "flower_supernode": "flwr.supernode.cli.flower_supernode",
    "flwr_clientapp": "flwr.supernode.cli.flwr_clientapp",
    "flwr_serverapp": "flwr.superlink.cli.flwr_serverapp",
    "flwr_simulation": "flwr.simulation.app",
    "ndarrays_to_parameters": "flwr.common",
    "parameters_to_ndarrays": "flwr.common",
    "secaggplus_mod": "flwr.client.mod",
    "start_parent_process_monitor": "flwr.supercore.app_utils",
    "user_config_to_proto": "flwr.common.serde",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - Flower ships its own types
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(name)


def set_masks(make: Callable[[bytes, int, list[tuple[int, ...]]], list[Any]]) -> None:
    """Let both sides of SecAgg+ in this process draw their masks with ``make``: seed, modulus, shapes."""
    for name in (
        "flwr.client.mod.secure_aggregation.secaggplus_mod",
        "flwr.server.workflow.secure_aggregation.secaggplus_workflow",
    ):
        module: Any = import_module(name)
        module.pseudo_rand_gen = make


def guard_superlink(secret: str) -> None:
    """Put the gate before a SuperLink that is started in this process afterwards (F-25)."""
    extensions: Any = import_module("flwr.superlink.extensions")
    starlette: Any = import_module("starlette.middleware")
    extensions.get_middleware = lambda: (starlette.Middleware(Gate, secret=secret),)


def guard_clientapp(choose: Callable[[bytes], Callable[[Message, Context], Message]]) -> None:
    """Let ``flwr_clientapp`` run what ``choose`` returns, and never unpack what was received (F-8).

    Args:
        choose: Gets the archive that the coordinator sent; returns what answers the message.
    """
    module: Any = import_module("flwr.supernode.runtime.run_clientapp")
    chosen: list[Callable[[Message, Context], Message]] = []

    def answer(message: Message, context: Context) -> Message:
        return chosen[-1](message, context)

    module.install_from_fab = lambda content, **_: chosen.append(choose(content))
    module.get_project_dir = lambda *_: Path()
    module.get_load_client_app_fn = lambda **_: lambda *_: answer


def guard_serverapp(check: Callable[[bytes], None], load: Callable[[], ServerApp]) -> None:
    """Let ``flwr_serverapp`` run what ``load`` returns, and never unpack what came with the run.

    Args:
        check: Gets the archive; raises where it is not the planned one.
        load: Returns the app; called once Flower knows that the task is alive.
    """
    module: Any = import_module("flwr.superlink.runtime.run_serverapp")

    def run(*, grid: Grid, context: Context, **_: object) -> Context:
        load()(grid=grid, context=context)
        return context

    module.install_from_fab = lambda content, **_: check(content)
    module.get_project_dir = lambda *_: Path()
    module.get_project_config = lambda _: {"tool": {"flwr": {"app": {"components": {"serverapp": ""}}}}}
    module.get_fused_config_from_dir = lambda _, config: dict(config)
    module.run_ = run
