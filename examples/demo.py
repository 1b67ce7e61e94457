"""`make demo`: the whole service on real parts, shown in a few minutes.

Starts everything, protects photographs over HTTP and undoes it, orders every scheme under every attack that needs no
training on the bundled sample, prints the figures beside the paper's, writes the report and stops.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import PIL.Image
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from unveil.app.cli.common import describe_os_error
from unveil.app.cli.console import PlainConsole
from unveil.app.cli.evaluation_table import render
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.client.options import Profile
from unveil.app.client.progress_bar import progress_bar
from unveil.app.client.types import Scheme
from unveil.app.errors.problem import NotAnImage, NotInvertible, UnveilError
from unveil.app.local.stack import LocalStack
from unveil.app.report.labels import paper_row

_PHOTO_FILES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
console = (Console if sys.stdout.isatty() else PlainConsole)(markup=False, emoji=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".state/demo"), help="folder for state and results")
    parser.add_argument("--profile", default="quick", choices=get_args(Profile))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop in order then, too
    started = time.monotonic()
    stack = LocalStack(options.state, port=0)
    try:
        with _announce_step("Starting PostgreSQL, Redis, the service and its workers"):
            stack.start()
        with Client(stack.url, stack.token) as client:
            _encrypt_and_decrypt(client, options.state / "pictures")
            evaluation = _evaluate(client, options.profile)
            _report(evaluation, options.state)
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    except (OSError, RuntimeError, UnveilError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        console.print(f"error: {reason}", highlight=False)
        return 1
    finally:
        with _announce_step("Stopping"):
            stack.stop()
    console.print(f"Done in {time.monotonic() - started:.0f} s. `make up` starts it again and keeps it running.")
    return 0 if evaluation.status == "succeeded" else 1


def _encrypt_and_decrypt(client: Client, folder: Path) -> None:
    """Encrypt photographs under every scheme, and decrypt them where the scheme allows it: the result must be exact."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = _sample_photos()
    table = Table(Column("scheme", no_wrap=True), "encrypt", "decrypt", Column("round trip", no_wrap=True))
    for scheme in _untrained_variants(client.schemes()):
        name = scheme["name"]
        params = {key: value for key, value in scheme.items() if key != "name"}
        label = "-".join([name, *map(str, params.values())])
        try:
            with _measure_seconds() as encrypting:
                protected = client.encrypt(photos, name, params)
        except NotAnImage:
            table.add_row(label, "", "", Text("ciphertexts are no images", style="dim"))
            continue
        try:
            with _measure_seconds() as decrypting:
                plain = client.decrypt(protected)
        except NotInvertible:
            decrypted, round_trip = "", Text("not invertible", style="dim")
        else:
            if not all(np.array_equal(a.pixels, _pixels(b)) for a, b in zip(plain, photos, strict=True)):
                raise SystemExit(f"{name} {params}: the decrypted photographs differ from the originals")
            decrypted, round_trip = f"{decrypting[0]:.2f} s", Text("exact", style="green")
        for image in protected:
            image.save(folder / f"{Path(image.filename).stem}.{label}.png")
        table.add_row(label, f"{encrypting[0]:.2f} s", decrypted, round_trip)
    megapixels = sum(pixels.shape[0] * pixels.shape[1] for pixels in map(_pixels, photos)) / 1e6
    console.print(f"Each scheme encrypts {len(photos)} photographs, {megapixels:.1f} megapixels together:")
    console.print(table)
    console.print(f"The protected photographs are in {folder}/\n")


def _evaluate(client: Client, profile: str) -> Evaluation:
    schemes, attacks = client.schemes(), client.attacks()
    non_learning, learning = (
        [attack["name"] for attack in attacks if attack["learned"] is learned and not attack["reads_upload"]]
        for learned in (False, True)
    )
    evaluation = client.evaluations.create(
        name="demo",
        schemes=[entry for entry in _untrained_variants(schemes) if paper_row(entry) is not None],
        # few ciphertexts are enough, and the attack's time grows with them
        attacks=[{"name": name, "ciphertexts": 16} if name == "key-recovery" else name for name in non_learning],
        dataset="sample",
        keys=1,  # three times as fast; the figures differ little from key to key
        profile=profile,  # type: ignore[arg-type]
    )
    console.print(f"{evaluation.id}: {len(evaluation.cells)} cells, the paper's schemes on the dataset sample")
    with progress_bar(console) as update_bar:
        evaluation.wait(progress=update_bar)
    console.print(render(evaluation.table()))
    if learning:
        console.print(f"Attacks that train a network take longer and were left out: {', '.join(learning)}.")
    return evaluation


def _report(evaluation: Evaluation, folder: Path) -> None:
    for format in ("html", "json"):
        path = folder / f"report.{format}"
        path.write_bytes(evaluation.report(format))
        console.print(f"Report: {path}")


def _untrained_variants(schemes: list[Scheme]) -> list[dict[str, Any]]:
    """Every variant of every scheme that needs no training."""
    return [
        {"name": scheme["name"], **variant["params"]}
        for scheme in schemes
        if not scheme["trains"]
        for variant in scheme["variants"]
    ]


def _sample_photos() -> list[Path]:
    """scikit-image's, read as files: this process needs no scikit-image."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo takes its photographs from scikit-image, which is not installed")
    return [Path(spec.origin).parent / "data" / name for name in _PHOTO_FILES]


def _pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@contextmanager
def _measure_seconds() -> Iterator[list[float]]:
    """A list that holds the seconds once the block has ended."""
    seconds: list[float] = []
    started = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - started)


@contextmanager
def _announce_step(text: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(text):
        yield
    console.print(f"{text}: {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
