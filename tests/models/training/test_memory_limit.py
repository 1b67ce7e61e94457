"""A training in a process whose memory is limited, as that of a worker is."""

import subprocess
import sys

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

def make_task():
    network = UNet(8)
    return RegressionTask(network, torch.optim.SGD(network.parameters(), 0.1), F.mse_loss)

used = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
print(train(make_task, [[images, images]], TrainingConfig("test", 1, 32, constant, precision="fp32"), RunContext())[1])
"""


def train_within(megabytes: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(megabytes * 2**20)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_training_that_needs_more_is_refused_with_both_numbers():
    refused = train_within(100)
    assert refused.returncode == 1
    assert "TrainingFailed: 32 images a step need more than the " in refused.stderr, refused.stderr[-500:]
    assert "GB that this process may use; lower `batch` or the widths" in refused.stderr


def test_a_training_that_fits_runs():
    trained = train_within(2000)
    assert (trained.returncode, trained.stdout) == (0, "()\n"), trained.stderr
