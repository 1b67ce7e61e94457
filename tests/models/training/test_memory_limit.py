"""Trainings in a process whose memory is limited, as that of a worker is."""

import re
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from unveil.models.networks.locally_connected import PixelwiseInverse
from unveil.models.networks.unet import UNet
from unveil.models.training import memory
from unveil.models.training.objectives import RegressionTask

SCRIPT = """
import re, resource, sys
import numpy as np, torch
from torch.nn import functional as F
from unveil.models.core.run_context import RunContext
from unveil.models.networks.unet import UNet
from unveil.models.training.loop import TrainingConfig, constant, train
from unveil.models.training.objectives import RegressionTask

torch.set_num_threads(1)
images = np.zeros((32, 96, 96, 3), np.uint8)
steps = []

class Task(RegressionTask):
    def step(self, images, generator):
        steps.append(len(images[0]))
        return super().step(images, generator)

def make_task(width=8):
    network = UNet(width)
    return Task(network, torch.optim.SGD(network.parameters(), 0.1), F.mse_loss)

def run(width=8, batch_size=32):
    config = TrainingConfig("test", 1, batch_size, constant, precision="fp32")
    return train(lambda: make_task(width), [[images, images]], config, RunContext())[1]

run(batch_size=4)  # imports what the first step imports
steps.clear()
used = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]) * 2**20, resource.RLIM_INFINITY))
for width in map(int, sys.argv[2:]):
    try:
        print(run(width), steps)
    except Exception as error:
        print(type(error).__name__, error, steps)
    steps.clear()
"""


def train_within(megabytes: int, *widths: int) -> list[str]:
    """A line for each training: its notes or its error, and the images of each of its steps."""
    command = [sys.executable, "-c", SCRIPT, str(megabytes), *map(str, widths)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_step_that_does_not_fit_is_made_smaller_or_refused_before_the_training():
    as_requested, smaller, refused = train_within(320, 2, 16, 256)
    assert as_requested == "() [2, 4, 32]"
    assert smaller == "('8 images per step instead of 32: too little memory',) [2, 4, 8, 8, 8, 8]"
    assert re.fullmatch(
        r"OutOfMemory [24] images per step need (an estimated [\d.]+ GB, )?more than the [\d.]+ GB that this process "
        r"may use; lower `batch` or the widths, or raise UNVEIL_JOB_MEMORY_BYTES \[[24, ]*\]",
        refused,
    ), refused


def _run_step(network, count):
    images = [torch.zeros(count, 32, 32, 3, dtype=torch.uint8)] * 2
    task = RegressionTask(network, torch.optim.AdamW(network.parameters(), 1e-3), F.mse_loss)
    task.step(images, torch.Generator())


@pytest.mark.parametrize("make_network", [lambda: UNet(4), lambda: PixelwiseInverse(32, 32, 8)])
def test_the_estimate_from_few_images_is_that_of_many(make_network):
    """One network whose activations and one whose weights need most of the memory."""

    def run(count):
        _run_step(make_network(), count)

    estimate = memory._estimate_bytes(run, 32)
    counted = memory._OVERHEAD_FACTOR * max(memory._trace_live_bytes(run, 32)) + memory._OVERHEAD_BYTES
    assert estimate(32) == pytest.approx(counted, rel=0.02)
