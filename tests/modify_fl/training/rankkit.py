"""One process of several that train together; started by ``test_ranks.py`` as torchrun would start it.

python rankkit.py JOB FOLDER STEPS
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from socket import socket

ROOT = Path(__file__).resolve().parents[3]


def start(job: str, folder: Path, steps: int, *, size: int) -> list[subprocess.CompletedProcess[str]]:
    """Run ``size`` processes of this program and return how each ended."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(size):
        place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": 1}
        environment = os.environ | {key: str(value) for key, value in (place | meeting).items()}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        words = [sys.executable, "-W", "ignore", __file__, job, str(folder), str(steps)]
        running.append(
            subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    ends = [process.communicate(timeout=300) for process in running]
    return [
        subprocess.CompletedProcess([job], process.returncode, out, err)
        for process, (out, err) in zip(running, ends, strict=True)
    ]


def alone(job: str, folder: Path, steps: int) -> str:
    """Do the same in this process and return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        work(job, folder, steps)
    return out.getvalue()


def work(job: str, folder: Path, steps: int) -> None:
    """Train stage 1 or stage 2 and write what each process ends with."""
    import torch
    from safetensors.torch import save_file

    from modify_fl.config import Budget, EncapsulationConfig, NetworkConfig, Preset, Runtime, StylizationConfig
    from modify_fl.data import load_images
    from modify_fl.errors import Error
    from modify_fl.events import TrainingEvent
    from modify_fl.launch import Launch
    from modify_fl.perceptual import PerceptualNets
    from modify_fl.training.encapsulation import encapsulate
    from modify_fl.training.stylization import adapt

    launch, said = Launch.from_environment(), []

    def emit(event: TrainingEvent) -> None:
        said.append(event)
        if (
            job == "stop" and event.kind == "phase" and event.phase == "remap"
        ):  # the first process alone is asked to stop
            os.kill(os.getpid(), signal.SIGTERM)

    network = NetworkConfig(
        resolution=32, w_dim=16, z_dim=16, channel_base=256, channel_max=16, enc_base=256, enc_max=16, pyramid=16,
        trunk=16, remap_layers=2, remap_width=16,
    )  # fmt: skip
    recipe = EncapsulationConfig(
        batch=5 if job == "odd" else 4, ema_half_life=40, parts=(0.2, 0.1, 0.4, 0.3), discriminator_start=0.1,
        identity_start=0.2,
    )  # fmt: skip
    if job == "settings" and launch.rank:
        recipe = replace(recipe, lambda_r=0.3)
    images = load_images("synthetic", resolution=32, look="painting", limit=12)
    nets = PerceptualNets.find(Path("/nowhere"))
    runtime, budget = Runtime(device="cpu", threads=1, precision="fp32"), Budget.parse(f"{steps}steps")
    try:
        if job in {"adapt", "online"}:
            from stylekit import bare_style

            made = adapt(
                bare_style(network), images, mode="offline" if job == "adapt" else "online",
                config=StylizationConfig(batch=4, learning_rate=1e-3, pseudo_real="mix"), budget=budget, seed=3,
                runtime=runtime, nets=nets, folder=folder, emit=emit,
            )  # fmt: skip
            state = dict(made.tensors)
        else:
            done = encapsulate(
                images, preset=Preset(name="tiny", network=network, encapsulation=recipe), budget=budget, seed=5,
                runtime=runtime, nets=nets, folder=folder, emit=emit,
            )  # fmt: skip
            state = {f"model.{k}": v for k, v in done.model.state_dict().items()}
            state |= {f"dis.{k}": v for k, v in done.discriminator.state_dict().items()}
    except Error as error:
        sys.stdout.write(f"{error.code}: {error.what}: {error.why}\n")
        sys.exit(error.exit_code)
    torch.set_num_threads(1)
    save_file({k: v.contiguous() for k, v in state.items()}, folder / f"rank{launch.rank}.safetensors")
    sys.stdout.write(json.dumps([asdict(event) for event in said]) + "\n")


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
