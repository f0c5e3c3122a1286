"""What ``content-client stylize`` costs beyond its networks, and what refining brings.

    python benchmarks/stylize.py BUNDLE --key KEY --photos DIR [--threads 2] [--parts photos crops start refine]

BUNDLE is a ``.mdfy`` file and KEY its provider's ``.mdfykey``; DIR holds whole
photos with faces. Prints Markdown; figures of one run only can be compared,
since machines are noisy. The parts:

photos   time of each step for the photos of DIR, one after the other; and of the
         program's own loop over them, with files and faces kept from before, as
         a multiple of the networks' own time
crops    a folder of 1,000 drawn crops through the program's own loop, against
         the bare networks
start    from the command line to the first picture on disk, in a new process
refine   --refine 50 on --faces faces of DIR: on how many LPIPS + identity
         distance to the photo falls, and the time against 50 bare
         forward and backward passes of the same loss

``refine`` needs the weights of LPIPS and of a face network in TORCH_HOME.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from content_client.painting import Options, Painter
from content_client.photos import Photo, open_photos
from content_client.pipeline import Ahead
from content_client.results import Job, output_stems
from modify_fl.console import Console, Verbosity
from modify_fl.data import ImageSet, to_uint8
from modify_fl.faces.align import Alignment
from modify_fl.faces.decode import Picture, read_picture, save_png
from modify_fl.faces.detect import Face, FaceDetector
from modify_fl.perceptual import PerceptualNets
from modify_fl.photo import PhotoReader, ReadPhoto, faces_of
from modify_fl.style import Style
from modify_fl.styles import Controls, seeded
from modify_fl.synthetic import draw_faces
from modify_fl.training.interrupt import StopRequest
from modify_fl.training.runtime import Compute, usable_cores
from modify_fl.training.stage2 import Stylization
from protocol.provider import read_provider_key
from protocol.trust import TrustStore

CROPS, CROP_SIDE, STEPS, ROUNDS = 1000, 128, 50, 5
PARTS = ("photos", "crops", "start", "refine")


@dataclass(frozen=True, kw_only=True)
class InMemory(Ahead):
    """Reads photos that are decoded already."""

    pictures: dict[str, Picture]

    def _decode(self, photo: Photo, data: object) -> Picture:  # noqa: ARG002 - read before
        return self.pictures[photo.name]


class Remembered(Painter):
    """The program's loop without file coding: photos are in memory, pictures go nowhere."""

    pictures: dict[str, Picture]

    @property
    def ahead(self) -> Ahead:
        """What reads nothing."""
        return InMemory(console=self.console, reader=self.reader, together=self.style.portion, pictures=self.pictures)

    def _save(self, *_: object) -> None:
        """Write nothing."""


class Known:
    """A detector that remembers the faces of photos it has seen."""

    def __init__(self, detector: FaceDetector) -> None:
        """Wrap a detector."""
        self.detector, self.faces = detector, dict[int, tuple[Face, ...]]()

    def detect(self, pixels: np.ndarray) -> tuple[Face, ...]:
        """Return the faces of a photo, found once."""
        if id(pixels) not in self.faces:
            self.faces[id(pixels)] = self.detector.detect(pixels)
        return self.faces[id(pixels)]


class Clock:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the block under ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def best(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the least seconds of several calls after one that warms up."""
    action()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def bare(style: Style, count: int = 64) -> float:
    """Return seconds a face of E and D alone, no padding, no conversion, batches as the program makes them."""
    model, side = style.loaded.model, style.resolution
    faces = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = style.style_rows(1)

    @torch.no_grad()
    def networks() -> None:
        for part in torch.split(faces, style.portion):
            codes = model.encode(part, encoder=style._encoder)  # noqa: SLF001 - the network that is timed
            model.decode(model.blend(codes, rows.expand(len(codes), -1, -1)))

    return best(networks) / count


def photos(style: Style, folder: Path) -> None:
    """Time every step of the pipeline, photo by photo."""
    network, clock, faces = bare(style), Clock(), 0
    reader = PhotoReader(resolution=style.resolution)
    detector = reader.detector
    rows = style.rows(seeded([1]))
    with ExitStack() as stack, tempfile.TemporaryDirectory() as out:
        for number, photo in enumerate(open_photos([folder], stack)):
            with clock("read the file"):
                picture = read_picture(photo.read(), name=photo.name)
            with clock("find faces"):
                found = [face for face in detector.detect(picture.pixels) if not face.tiny]
            if not found:
                continue
            with clock("align"):
                alignments = tuple(Alignment.of(face.landmarks, style.resolution) for face in found)
                crops = np.stack([alignment.crop(picture.pixels) for alignment in alignments])
                read = ReadPhoto(picture=picture, faces=tuple(found), alignments=alignments, crops=crops)
                batch = faces_of([read])
            with clock("put back"):  # only the shape of what was painted decides the time
                whole = read.put_back(list(255 - crops))
            with clock("paint, alone"):
                to_uint8(style.paint(batch, rows))
            with clock("write the file"):
                save_png(whole, Path(out) / f"{number}.png")
            faces += len(found)
    loop, painted = whole_loop(style, folder, reader)
    network = min(network, bare(style))
    own = {name: 1000 * seconds / faces for name, seconds in clock.seconds.items()}
    full = batch[:1].expand(style.portion, -1, -1, -1)
    together = 1000 * best(lambda: to_uint8(style.paint(full, rows)))
    painting = together / style.portion
    print(f"\n## Photos\n\n{faces} faces of {number + 1} photos, milliseconds a face\n\n| step | ms |\n|---|---|")
    for name, value in own.items():
        print(f"| {name} | {value:.1f} |")
    print(f"| paint, {style.portion} faces together | {painting:.1f} |\n| bare networks | {1000 * network:.1f} |")
    print(
        f"\nthe whole loop without detection and file coding: {1000 * loop / painted:.1f} ms a face, "
        f"{loop / painted / network:.2f} times the bare networks"
    )


def whole_loop(style: Style, folder: Path, reader: PhotoReader) -> tuple[float, int]:
    """Return the least seconds of the program's loop over photos that are read and searched already, and its faces."""
    known = Known(reader.detector)
    vars(reader)["detector"] = known  # a cached property
    with ExitStack() as stack, tempfile.TemporaryDirectory() as out:
        found = open_photos([folder], stack)
        pictures = {photo.name: read_picture(photo.read(), name=photo.name) for photo in found}
        least, count = float("inf"), 0
        for number in range(1 + ROUNDS):  # the first one finds the faces
            job = Job(
                photos=[Photo(name=photo.name, read=bytes) for photo in found], styles=seeded([1]),
                stems=output_stems([photo.name for photo in found]), out=Path(out) / str(number),
            )  # fmt: skip
            painter = Remembered(
                console=Console("stylize", "benchmark", Verbosity(quiet=True)), style=style, controls=Controls(),
                reader=reader, options=Options(),
            )  # fmt: skip
            painter.pictures = pictures
            rows, start = style.rows(job.styles), time.perf_counter()
            with StopRequest() as stop:
                count = sum(len(record.faces) for _, record in painter._written(job, rows, set(), stop))  # noqa: SLF001 - timed
            least = min(least, time.perf_counter() - start) if number else least
    return least, count


def crops(style: Style) -> None:
    """Run the program's own loop over a folder of crops."""
    network = bare(style)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        folder.mkdir()
        drawn = draw_faces("photo", 50, CROP_SIDE, 3)
        for index in range(CROPS):
            Image.fromarray(drawn[index % len(drawn)]).save(folder / f"{index:04d}.jpg", quality=92)
        found: list[Photo] = open_photos([folder], stack)
        job = Job(
            photos=found,
            stems=output_stems([photo.name for photo in found]),
            styles=seeded([1]),
            out=Path(place) / "out",
        )
        painter = Painter(
            console=Console("stylize", "benchmark", Verbosity(quiet=True)), style=style, controls=Controls(),
            reader=PhotoReader(resolution=style.resolution, align=False), options=Options(),
        )  # fmt: skip
        start = time.perf_counter()
        painter.run(job, fresh=True)
        seconds = time.perf_counter() - start
    network = min(network, bare(style))
    print(f"\n## {CROPS} crops\n\n| | faces/s | faces/s per core |\n|---|---|---|")
    for name, pace in (("bare networks", 1 / network), ("folder to folder", CROPS / seconds)):
        print(f"| {name} | {pace:.1f} | {pace / torch.get_num_threads():.1f} |")
    print(f"\nfolder to folder is {CROPS * network / seconds:.0%} of the bare networks")


def start(bundle: Path, key: Path, photo: Path, threads: int) -> None:
    """Time new processes from the command line to the picture."""
    program = Path(sys.executable).parent / "content-client"
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"MODIFY_CONFIG": f"{place}/config"}
        fingerprint = read_provider_key(key).fingerprint
        words = [program, "trust", "add", key, "--fingerprint", fingerprint, "--quiet"]
        subprocess.run(words, env=environment, check=True)  # noqa: S603 - our own program
        times = []
        for number in range(ROUNDS):
            out = Path(place) / str(number)
            words = [program, "stylize", "--bundle", bundle, photo, "--out", out, "--threads", str(threads), "--quiet"]
            begin = time.perf_counter()
            subprocess.run(words, env=environment, check=True)  # noqa: S603 - our own program
            times.append(time.perf_counter() - begin)
    first, median = times[0], statistics.median(times)
    print(f"\n## Start\n\none photo, process start to end: {first:.1f} s at first, {median:.1f} s median")


def refine(style: Style, folder: Path, count: int) -> None:
    """Refine the first faces of a folder and measure what the photo's owner would see."""
    train, judge = PerceptualNets.find(require=True), PerceptualNets.find(require=True, identity="casia-webface")
    compute = Compute(device=torch.device("cpu"), bf16=False, threads=torch.get_num_threads())
    reader = PhotoReader(resolution=style.resolution, faces="largest")
    taken, passes = [], []
    rows = style.rows(seeded([1]))
    table: dict[str, list[tuple[float, float]]] = {"D(E'(x)), trained with": [], "D(E'(x)), not trained with": []}
    table["painted, not trained with"] = []
    with ExitStack() as stack:
        for photo in open_photos([folder], stack)[:count]:
            face = faces_of([reader.read(photo.read(), name=photo.name)])
            begin = time.perf_counter()
            done = style.refined(face, nets=train, threads=compute.threads)
            taken.append(time.perf_counter() - begin)
            passes.append(_bare_passes(style, face, compute, train))
            for name, nets, show in (
                ("D(E'(x)), trained with", train, Style.reconstruct),
                ("D(E'(x)), not trained with", judge, Style.reconstruct),
                ("painted, not trained with", judge, lambda own, x: own.paint(x, rows)[0]),
            ):
                table[name].append(tuple(_distance(nets, face, show(own, face)) for own in (style, done.style)))  # type: ignore[arg-type]
    print(f"\n## Refining, {STEPS} steps, {len(taken)} faces\n")
    print("| LPIPS + 1 - cosine | before | after | falls on |\n|---|---|---|---|")
    for name, pairs in table.items():
        before, after = (statistics.mean(values) for values in zip(*pairs, strict=True))
        print(f"| {name} | {before:.3f} | {after:.3f} | {sum(b > a for b, a in pairs) / len(pairs):.0%} |")
    ratio = sum(taken) / sum(passes)
    print(f"\n{statistics.mean(taken):.2f} s a face, {ratio:.2f} times {STEPS} bare forward and backward passes")


@torch.no_grad()
def _distance(nets: PerceptualNets, face: Tensor, picture: Tensor) -> float:
    assert nets.lpips is not None  # noqa: S101 - demanded above
    assert nets.face is not None  # noqa: S101 - demanded above
    cosine = (nets.face(face) * nets.face(picture)).sum()
    return float(nets.lpips(face, picture)[0] + 1 - cosine)


def _bare_passes(style: Style, face: Tensor, compute: Compute, nets: PerceptualNets) -> float:
    """Return the seconds of as many forward and backward passes of a step, without optimisers and set-up."""
    stage = Stylization(
        style.loaded, ImageSet.of(torch.from_numpy(to_uint8(face)).permute(0, 3, 1, 2), ["face"]), mode="test-time",
        config=style.recipe(), total=STEPS, seed=0, compute=compute, nets=nets,
    )  # fmt: skip
    whole = slice(0, 1)
    begin = time.perf_counter()
    for step in range(STEPS):
        _, output = stage._adapt_part(face, whole)  # noqa: SLF001 - the passes of a step
        if stage.adversary is not None:
            stage.adversary._train_part(stage.pseudo_real(face), output, step, whole)  # noqa: SLF001 - the same
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--faces", type=int, default=40, help="faces to refine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    style = Style.load(options.bundle, trust=TrustStore.of(read_provider_key(options.key)))
    print(f"{style.resolution} px, {options.threads} threads of {usable_cores()} cores, torch {torch.__version__}")
    if "photos" in options.parts:
        photos(style, options.photos)
    if "crops" in options.parts:
        crops(style)
    if "start" in options.parts:
        first = next(path for path in sorted(options.photos.rglob("*")) if path.is_file())
        start(options.bundle, options.key, first, options.threads)
    if "refine" in options.parts:
        refine(style, options.photos, options.faces)


if __name__ == "__main__":
    main()
