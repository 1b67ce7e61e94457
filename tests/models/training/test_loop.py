import os
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unveil.models.core import checkpoints
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.run_context import RunContext
from unveil.models.networks.block_network import BlockNetwork
from unveil.models.networks.patch_discriminator import PatchDiscriminator
from unveil.models.networks.unet import UNet
from unveil.models.training import loop, memory
from unveil.models.training.augmentation import random_square_crop
from unveil.models.training.loop import TrainingConfig, constant, cosine, reconstruct, step_decay, train
from unveil.models.training.objectives import GanTask, RegressionTask, TransformationTask

CONFIG = TrainingConfig("test", epochs=3, batch_size=4, lr_schedule=step_decay(0.5), precision="fp32")


def _images(count=18, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)


def _regression(rate=0.1, network=BlockNetwork):
    network_made = network()
    return RegressionTask(network_made, torch.optim.SGD(network_made.parameters(), rate, 0.9), F.mse_loss)


def _crop_regression():
    network = BlockNetwork()
    return RegressionTask(network, torch.optim.SGD(network.parameters(), 0.1, 0.9), F.mse_loss, side=8)


def _gan(**settings):
    networks = BlockNetwork(output_tanh=True), PatchDiscriminator(8)
    return GanTask(*networks, lambda n: torch.optim.Adam(n.parameters(), 1e-3, fused=True), **settings)


def _flipped_gan():
    return _gan(sign_check_epochs={1, 2}, polarity_score=lambda _: -1.0)


def _transformation():
    classifier, feature_extractor = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), nn.Conv2d(3, 4, 3)
    for number, module in enumerate((classifier, feature_extractor)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.1)
    network = BlockNetwork(output_tanh=True)
    held_out = _images(7, 3), np.arange(7) % 3
    return TransformationTask(
        network, torch.optim.SGD(network.parameters(), 0.3, 0.9), classifier, feature_extractor, 0.1, 2, held_out
    )


TASKS = {
    "regression": (_regression, [[255 - _images(), _images()]]),
    "regression of squares": (_crop_regression, [[255 - _images(), _images()]]),
    "adversarial": (_gan, [[_images(18, 1)], [_images(11, 2)]]),
    "adversarial, turned twice": (_flipped_gan, [[_images(18, 1)], [_images(11, 2)]]),
    "concealment": (_transformation, [[_images(18, 1), np.arange(18) % 3]]),
}


def _weights(task):
    return {name: value.clone() for name, value in task.networks.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("make", "tensor_groups"), TASKS.values(), ids=TASKS.keys())
@pytest.mark.parametrize("stop", [1, 5, 8, 11])
def test_a_run_interrupted_at_any_step_and_resumed_ends_at_the_same_weights(
    make, tensor_groups, stop, tmp_path, monkeypatch
):
    def make_curve_recorder():
        """A fresh curve, as in a new process."""
        curve: list[tuple[str, int, float]] = []
        return curve, lambda *point: curve.append(point) if point[0] != "images_per_second" else None

    curve, metric = make_curve_recorder()
    straight, _ = train(make, tensor_groups, CONFIG, RunContext(seed=7, metric=metric))

    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(loop, "CANCEL_CHECK_SECONDS", 0)
    done: list[bool] = []

    class Stopped(type(straight)):
        def step(self, images, generator):
            if len(done) == stop:
                raise Cancelled
            done.append(True)
            return super().step(images, generator)

    def make_stopped():
        task = make()
        task.__class__ = Stopped
        return task

    with pytest.raises(Cancelled):
        train(make_stopped, tensor_groups, CONFIG, RunContext(seed=7, checkpoints=DirectoryStore(tmp_path)))
    assert checkpoints.load(DirectoryStore(tmp_path), "test.ckpt")["step"] == stop
    reports: list[float] = []
    for _ in range(2):  # the second time from the final checkpoint
        resumed_curve, metric = make_curve_recorder()
        callbacks = {"metric": metric, "report": lambda fraction, _: reports.append(fraction)}
        resumed, _ = train(
            make, tensor_groups, CONFIG, RunContext(seed=7, checkpoints=DirectoryStore(tmp_path), **callbacks)
        )
        assert _same(_weights(straight), _weights(resumed))
        assert resumed_curve == curve
    assert min(reports) == stop / (CONFIG.epochs * (len(tensor_groups[0][0]) // CONFIG.batch_size))


def test_a_run_out_of_time_keeps_every_step(tmp_path):
    make, tensor_groups = TASKS["adversarial"]
    straight, _ = train(make, tensor_groups, CONFIG, RunContext(seed=7))
    slices, resumed = 0, None
    while resumed is None:
        context = RunContext(seed=7, checkpoints=DirectoryStore(tmp_path), deadline=time.monotonic())
        slices += 1
        with suppress(Cancelled):
            resumed, _ = train(make, tensor_groups, CONFIG, context)
    assert slices == 3 * (18 // 4)
    assert _same(_weights(straight), _weights(resumed))


def test_the_weights_of_the_epoch_with_the_lowest_loss_on_held_out_images_are_kept(tmp_path):
    """The learning rate rises until the last epochs increase the loss."""
    make, tensor_groups = TASKS["concealment"]
    config = TrainingConfig("test", 6, 4, lambda fraction: 1 if fraction < 0.5 else 30, precision="fp32")
    losses = []

    def metric(name, step, value):
        if name == "validation_loss":
            losses.append(value)

    context = RunContext(checkpoints=DirectoryStore(tmp_path), metric=metric)
    task, _ = train(make, tensor_groups, config, context)
    best = int(np.argmin(losses))
    assert len(losses) == 6
    assert best < 5
    assert (task.best_epoch, task.best_loss) == (best + 1, losses[best])
    task.best_network()
    assert task.after_epoch()["validation_loss"] == losses[best]
    again, _ = train(make, tensor_groups, config, context)
    assert _same(dict(again.best_network().state_dict()), dict(task.network.state_dict()))


def test_crops_of_a_pair_show_the_same_place():
    network, sizes = nn.Conv2d(3, 3, 1), set()

    def loss(output, plain):
        assert torch.allclose(output, network(-plain), atol=1e-6)
        sizes.add(output.shape[2:])
        return F.mse_loss(output, plain)

    task = RegressionTask(network, torch.optim.SGD(network.parameters(), 0.1), loss, side=6)
    for seed in range(5):
        task.step([torch.from_numpy(255 - _images()), torch.from_numpy(_images())], torch.Generator().manual_seed(seed))
    assert sizes == {(6, 6)}


def test_a_crop_is_aligned_to_blocks():
    images = torch.arange(2 * 40 * 44 * 3).view(2, 40, 44, 3)
    for side, expected in ((30, 28), (2, 4), (64, 40)):
        cropped = random_square_crop(images, side, 4, torch.Generator().manual_seed(side))
        assert cropped.shape[1:3] == (expected, min(44, side // 4 * 4 or 4))
        assert cropped[0, 0, 0, 0] // 3 % 44 % 4 == cropped[0, 0, 0, 0] // (3 * 44) % 4 == 0, "the corner too"


def test_crops_whose_features_are_compared_show_the_same_place():
    network, sizes = nn.Conv2d(3, 3, 1), set()
    network.weight.data, network.bias.data = torch.eye(3).view(3, 3, 1, 1), torch.zeros(3)

    class RecordingExtractor(nn.Module):
        def forward(self, images):
            sizes.add(images.shape[2:])
            return images

    classifier = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    still = torch.optim.SGD(network.parameters(), 0.0)
    task = TransformationTask(
        network, still, classifier, RecordingExtractor(), 1.0, 2, (_images(), np.arange(18) % 3), side=6
    )
    for seed in range(5):
        batch = [torch.from_numpy(_images()), torch.arange(18) % 3]
        assert task.step(batch, torch.Generator().manual_seed(seed))["distance"] < 1e-10
    assert sizes == {(6, 6)}
    task.after_epoch()
    assert sizes == {(6, 6), (16, 16)}  # the validation loss uses whole images


# After each of three epochs; see networks/test_inverse_networks.py.
GOLDEN = {
    "loss": [2.97171, 2.42070, 1.69831],
    "cross_entropy": [2.99887, 2.45830, 1.73475],
    "distance": [0.27153, 0.37599, 0.36449],
    "validation_loss": [2.94501, 2.68365, 2.54713],
}


def test_golden_losses_of_the_transformation_task():
    curve: dict[str, list[float]] = {}
    context = RunContext(metric=lambda name, step, value: curve.setdefault(name, []).append(value))
    train(*TASKS["concealment"], CONFIG, context)
    assert {name: curve[name] for name in GOLDEN} == {
        name: pytest.approx(values, rel=2e-3) for name, values in GOLDEN.items()
    }


def test_frozen_networks_do_not_change():
    make, tensor_groups = TASKS["concealment"]
    before = [value.clone() for network in make().frozen for value in network.state_dict().values()]
    task, _ = train(make, tensor_groups, CONFIG, RunContext())
    after = [value for network in task.frozen for value in network.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(judge.training for judge in task.frozen)


def test_a_finished_run_is_not_trained_again(tmp_path):
    make, tensor_groups = TASKS["regression"]
    first, _ = train(make, tensor_groups, CONFIG, RunContext(checkpoints=DirectoryStore(tmp_path)))
    reports = []
    again, _ = train(
        make,
        tensor_groups,
        CONFIG,
        RunContext(checkpoints=DirectoryStore(tmp_path), report=lambda *progress: reports.append(progress)),
    )
    assert _same(_weights(first), _weights(again))
    assert not reports


OTHER_RUNS = {
    "seed": (TASKS["regression"][1], CONFIG, 1),
    "images": ([[_images(18, 5), _images()]], CONFIG, 0),
    "plan": (TASKS["regression"][1], replace(CONFIG, epochs=2), 0),
}


@pytest.mark.parametrize(("tensor_groups", "config", "seed"), OTHER_RUNS.values(), ids=OTHER_RUNS.keys())
def test_a_checkpoint_of_another_run_is_ignored(tensor_groups, config, seed, tmp_path):
    train(*TASKS["regression"], CONFIG, RunContext(checkpoints=DirectoryStore(tmp_path)))
    fresh, _ = train(_regression, tensor_groups, config, RunContext(seed=seed))
    beside, _ = train(_regression, tensor_groups, config, RunContext(seed=seed, checkpoints=DirectoryStore(tmp_path)))
    assert _same(_weights(fresh), _weights(beside))


def test_a_damaged_checkpoint_restarts_the_run(tmp_path):
    make, tensor_groups = TASKS["regression"]
    straight, _ = train(make, tensor_groups, CONFIG, RunContext(checkpoints=DirectoryStore(tmp_path)))
    file = tmp_path / "test.ckpt"
    contents = file.read_bytes()
    for damaged in (
        b"",
        contents[:1000],
        contents[:-1],
        *(_flip_byte(contents, at) for at in range(0, len(contents), 97)),
    ):
        file.write_bytes(damaged)
        assert checkpoints.load(DirectoryStore(tmp_path), "test.ckpt") is None
    again, _ = train(make, tensor_groups, CONFIG, RunContext(checkpoints=DirectoryStore(tmp_path)))
    assert _same(_weights(straight), _weights(again))


def _flip_byte(contents: bytes, at: int) -> bytes:
    return contents[:at] + bytes([contents[at] ^ 1]) + contents[at + 1 :]


def test_training_leaves_the_callers_random_numbers_alone():
    make, tensor_groups = TASKS["regression"]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(make, tensor_groups, CONFIG, RunContext())
    assert torch.equal(torch.rand(3), expected)


def test_a_diverging_loss_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_SECONDS", 0)

    class Poisoned(RegressionTask):
        steps = 0

        def step(self, images, generator):
            self.steps += 1
            losses = super().step(images, generator)
            if self.steps == 6:
                with torch.no_grad():
                    next(self.networks.parameters()).fill_(float("nan"))
            return losses

    def make():
        task = _regression()
        task.__class__ = Poisoned
        return task

    with pytest.raises(AttackFailed, match="not a number in epoch 2 of 3"):
        train(make, TASKS["regression"][1], CONFIG, RunContext(checkpoints=DirectoryStore(tmp_path)))
    checkpoint = checkpoints.load(DirectoryStore(tmp_path), "test.ckpt")
    assert checkpoint["step"] == 5
    assert all(value.isfinite().all() for value in checkpoint["lesson"]["networks"].values())


def test_an_excessive_learning_rate_is_named():
    with pytest.raises(AttackFailed, match="lower the learning rate"):
        train(lambda: _regression(1e9), TASKS["regression"][1], CONFIG, RunContext())


def test_a_run_that_diverges_in_its_last_step_fails(tmp_path):
    # One step, whose loss is still finite.
    steps = replace(CONFIG, epochs=1, batch_size=len(TASKS["regression"][1][0][0]))

    def steep():
        task = _regression(1e30)
        task.loss = lambda made, plain: 1e30 * F.mse_loss(made, plain)
        return task

    with pytest.raises(AttackFailed, match="a weight is not a number in epoch 1 of 1"):
        train(steep, TASKS["regression"][1], steps, RunContext(checkpoints=DirectoryStore(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_one_small_image_a_step_is_refused_with_a_hint():
    def make():
        network = nn.Sequential(nn.Conv2d(3, 3, 8), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 8))
        return RegressionTask(network, torch.optim.SGD(network.parameters(), 0.1), F.mse_loss)

    pair = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(AttackFailed, match="raise `batch`"):
        train(make, [[pair, pair]], replace(CONFIG, batch_size=1), RunContext())


class MemoryHungryTask(RegressionTask):
    """Runs out of memory above `limit` images per step."""

    limit = 1

    def step(self, images, generator):
        if len(images[0]) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().step(images, generator)


@pytest.mark.parametrize("limit", [2, 5])
def test_too_little_memory_halves_the_batch_and_adds_a_note(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(MemoryHungryTask, "limit", limit)

    def make():
        task = _regression()
        task.__class__ = MemoryHungryTask
        return task

    tensor_groups = TASKS["regression"][1]
    config = TrainingConfig("test", 2, 8, constant, precision="fp32")
    task, notes = train(make, tensor_groups, config, RunContext(checkpoints=DirectoryStore(tmp_path)))
    fitting = 2 if limit == 2 else 4
    assert notes == (f"{fitting} images per step instead of 8: too little memory",)
    planned, _ = train(
        _regression, tensor_groups, TrainingConfig("test", 2, fitting, constant, precision="fp32"), RunContext()
    )
    assert _same(_weights(task), _weights(planned))
    _, notes_again = train(make, tensor_groups, config, RunContext(checkpoints=DirectoryStore(tmp_path)))
    assert notes_again == notes


def test_too_little_memory_for_two_images_fails_the_run():
    def make():
        task = _regression()
        task.__class__ = MemoryHungryTask
        return task

    with pytest.raises(AttackFailed, match="too little memory on cpu"):
        train(make, TASKS["regression"][1], CONFIG, RunContext())


def test_other_errors_are_raised_unchanged():
    class Wrong(RegressionTask):
        def step(self, images, generator):
            raise RuntimeError("shapes do not match")

    def make():
        task = _regression()
        task.__class__ = Wrong
        return task

    with pytest.raises(RuntimeError, match="shapes"):
        train(make, TASKS["regression"][1], CONFIG, RunContext())


def test_a_cancellation_takes_effect_within_a_step(monkeypatch):
    """One step can take minutes, so that reports must come from between the layers of both passes."""
    monkeypatch.setattr(loop, "CANCEL_CHECK_SECONDS", 0)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    reports = []

    def report(fraction, phase):
        reports.append(fraction)
        if len(reports) == 20:  # a step itself makes only a few
            raise Cancelled

    config = TrainingConfig("test", 1, 2, constant, precision="fp32")
    with pytest.raises(Cancelled):
        train(lambda: _regression(network=UNet), [[images, images]], config, RunContext(report=report))
    assert reports == [0.0] * 20, "before the only step is over"


def test_every_epoch_reports_loss_speed_and_time_left(monkeypatch):
    monkeypatch.setattr(loop, "CANCEL_CHECK_SECONDS", 0)
    metrics, phases = [], []
    context = RunContext(report=lambda f, phase: phases.append((f, phase)), metric=lambda *m: metrics.append(m))
    train(*TASKS["adversarial"], CONFIG, context)
    for name in ("loss", "discriminator_loss", "images_per_second"):
        assert [step for found, step, _ in metrics if found == name] == [1, 2, 3]
    fractions = [f for f, _ in phases]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert phases[-1][1].startswith("epoch 3 of 3, ")
    assert phases[-1][1].endswith(" images/s, 0 s left")


def test_a_run_without_images_is_refused():
    with pytest.raises(AttackFailed, match="no images"):
        train(_regression, [[_images(0), _images(0)]], CONFIG, RunContext())


def test_every_image_of_every_group_is_used_once_an_epoch_in_a_new_order():
    batches_seen = []

    class Watching(RegressionTask):
        def step(self, images, generator):
            batches_seen.append([image[:, 0, 0, 0].tolist() for image in images])
            return super().step(images, generator)

    def make():
        task = _regression()
        task.__class__ = Watching
        return task

    numbered = np.zeros((8, 16, 16, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None]
    train(make, [[numbered, numbered]], TrainingConfig("test", 2, 4, constant, precision="fp32"), RunContext())
    epochs = [batches_seen[0][0] + batches_seen[1][0], batches_seen[2][0] + batches_seen[3][0]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 2
    assert epochs[0] != epochs[1]
    assert all(protected == plain for protected, plain in batches_seen)


def test_schedules():
    steps = step_decay(150 / 300, 225 / 300)
    assert [round(steps(e / 300), 9) for e in (0, 149, 150, 224, 225, 299)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert cosine(0.05) == pytest.approx(1)
    assert cosine(1.0) == pytest.approx(0, abs=1e-9)
    assert constant(0.7) == 1


def test_reconstruct_gives_8_bit_images_of_the_same_shape():
    images = _images(5)
    assert (reconstruct(nn.Identity().eval(), images, RunContext(), max_pixels_per_batch=500) == images).all()
    assert reconstruct(nn.Identity(), images[:0], RunContext()).shape == (0, 16, 16, 3)


def test_images_are_reconstructed_one_by_one_where_two_do_not_fit(monkeypatch):
    images = np.zeros((2, 512, 512, 3), np.uint8)
    network = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 3, 1)).eval()
    estimate = memory._estimate_bytes(lambda count: network(torch.zeros(count, 3, 512, 512)), 2)
    assert estimate(2) - estimate(1) > 60e6  # more than the bytes in use change from one call to the next
    limit = memory._bytes_in_use() + int(estimate(1) + estimate(2)) // 2
    monkeypatch.setattr(memory, "process_limit", lambda: limit)
    batch_sizes = []
    network.register_forward_hook(lambda _, inputs, __: batch_sizes.append(len(inputs[0])))
    reconstruct(network, images, RunContext(), max_pixels_per_batch=2**20)
    assert batch_sizes[-2:] == [1, 1]


def test_outputs_that_are_not_finite_are_refused():
    network = nn.Conv2d(3, 3, 1)
    nn.init.constant_(network.weight, 1e38)
    with pytest.raises(AttackFailed, match="lower the learning rate"):
        reconstruct(network, _images(3), RunContext())


def test_a_checkpoint_is_never_half_written(tmp_path, monkeypatch):
    folder = DirectoryStore(tmp_path / "deep")
    checkpoints.save(folder, "a.ckpt", {"step": 1})

    def crash(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(folder, "a.ckpt", {"step": 2})
    assert checkpoints.load(folder, "a.ckpt") == {"step": 1}
    assert [file.name for file in folder.path.iterdir()] == ["a.ckpt"]
    assert checkpoints.load(folder, "none.ckpt") is None


def test_every_bit_of_a_seed_counts():
    seeds = [0, 1, 2**63, 2**64, 2**128, 2**255 - 1, -(2**255)]
    assert len({loop._derive_seed(seed, 0, 0) for seed in seeds}) == len(seeds)
    assert loop._derive_seed(5, 1, 2) == int(np.random.SeedSequence([5, 1, 2]).generate_state(1, np.uint64)[0])
