"""What protection costs a classifier: on stripes that lie or stand, which a small network learns in a second."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.training.test_classifier import make_stripes
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.cell_result import ProtectionCost
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.images import Images
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS
from unveil.models.core.run_context import RunContext
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.evaluation import classification_utility, cli, utility_classifiers
from unveil.models.evaluation.cell import measure_utility, run_cell
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.networks.tanaka_adaptation import Adaptation
from unveil.models.training.classifier import Classifier

SMOKE = ScoringOptions(profile="smoke", keys=1, samples=1, utility=True)


def make_stripe_dataset(train=96, test=64) -> ImageDataset:
    return ImageDataset(
        "stripes", *make_stripes(train, side=24), *make_stripes(test, seed=1, side=24), classes=("lying", "standing")
    )


@pytest.fixture
def longer_training(monkeypatch):
    """Enough training to tell the stripes apart."""
    longer = replace(utility_classifiers.CLASSIFIERS["smoke"], width=8, epochs=8, rate=0.05, precision="fp32")
    monkeypatch.setitem(utility_classifiers.CLASSIFIERS, "smoke", longer)


@pytest.fixture
def full_profile(monkeypatch):
    """The profile takes all of the stripes."""
    monkeypatch.setitem(PROFILE_IMAGE_COUNTS, "smoke", (None, None))
    monkeypatch.setitem(classification_utility.TRAINING_IMAGES, "smoke", None)


def measure(scheme, data=None, **settings):
    return measure_utility(make_scheme(scheme, settings), data or make_stripe_dataset(), SMOKE, RunContext()).result


def test_a_classifier_learns_from_tanakas_images_through_the_adaptation_network(longer_training, full_profile):
    result = measure("tanaka")
    assert result.plain.top1 > 0.9
    assert result.plain.ci_low < result.plain.top1 <= result.plain.ci_high
    assert result.protected.top1 > 0.8
    assert result.drop.points == pytest.approx(100 * (result.plain.top1 - result.protected.top1))
    assert result.drop.ci_low <= result.drop.points <= result.drop.ci_high
    assert result.training.available
    assert result.testing.available
    assert result.cost.level == "Low"
    assert result.cost.parameters is None
    assert result.cost.images_per_second > 0
    assert any("adaptation network" in note for note in result.notes)


def test_noise_teaches_nothing_and_is_classified_as_low(longer_training, full_profile, monkeypatch):
    rng = np.random.default_rng(0)
    scheme = make_scheme("pixelwise", {})
    monkeypatch.setattr(scheme, "protect", lambda images, *_: rng.integers(0, 256, images.shape, np.uint8))
    result = measure_utility(scheme, make_stripe_dataset(), SMOKE, RunContext()).result
    assert result.plain.top1 > 0.9
    assert result.classification == "Low"
    assert not result.training.available
    assert not result.testing.available
    assert "chance 50.0 %" in result.training.reason


def test_a_classifier_that_sees_nothing_of_plain_images_decides_nothing(full_profile):
    data = make_stripe_dataset()
    result = measure("tanaka", replace(data, test_labels=np.random.default_rng(0).permutation(data.test_labels)))
    assert result.classification is None
    assert result.training.available is None
    assert result.testing.available is None
    assert "no better than chance" in result.training.reason
    assert any("cost of protection is unknown" in note for note in result.notes)


def test_the_plain_classifier_is_trained_once_for_all_schemes_and_cells(longer_training, full_profile):
    computed: dict[str, bytes] = {}

    def once(name, make):
        if name not in computed:
            computed[name] = make()
        return computed[name]

    context = RunContext(memoize=once)
    for scheme in ("tanaka", "etc"):
        measure_utility(make_scheme(scheme, {}), make_stripe_dataset(), SMOKE, context)
    assert len(computed) == 3, "one of plain images, one each of protected ones"
    result_cell = run_cell(make_scheme("tanaka", {}), make_attack("none", {}), make_stripe_dataset(), SMOKE, context)
    classifiers = [name for name in computed if name.startswith("classifier/")]
    assert len(classifiers) == 3, "the recogniser is the plain classifier"
    seen = result_cell.result.recogniser
    assert seen.plain > 0.9
    assert seen.top1 == seen.protected, "nothing was reconstructed"
    assert seen.chance == 0.5


def test_a_recogniser_knows_what_a_broken_scheme_shows(longer_training, full_profile):
    result_cell = run_cell(
        make_scheme("pixelwise", {}),
        make_attack("chosen-plaintext", {}),
        make_stripe_dataset(test=40),
        SMOKE,
        RunContext(),
    )
    assert result_cell.result.recogniser.top1 == result_cell.result.recogniser.plain > 0.9
    assert result_cell.result.recogniser.protected < 0.8
    without = run_cell(
        make_scheme("pixelwise", {}),
        make_attack("none", {}),
        make_stripe_dataset(),
        replace(SMOKE, utility=False),
        RunContext(),
    )
    assert without.result.recogniser is None


def test_uploaded_ciphertexts_are_measured_against_their_originals(longer_training, full_profile):
    plain = make_stripe_dataset()
    negative = replace(
        plain, train=255 - plain.train, test=255 - plain.test, train_originals=plain.train, test_originals=plain.test
    )
    result = measure_utility(None, negative, SMOKE, RunContext()).result
    assert result.classification == "High"
    assert result.cost == ProtectionCost(level=None, images_per_second=None, parameters=None)
    with pytest.raises(AttackFailed, match="originals"):
        measure_utility(None, plain, SMOKE, RunContext())


def test_a_trained_scheme_costs_the_weights_of_its_network(full_profile):
    result = measure_utility(
        make_scheme("tn-gan", {}, "smoke"), make_stripe_dataset(24, 24), SMOKE, RunContext()
    ).result
    assert result.cost.level == "High"
    assert result.cost.parameters > 1000


def test_tn_model_serves_the_classifier_of_its_key_and_no_training(full_profile):
    scheme, data = make_scheme("tn-model", {"precision": "fp32"}, "smoke"), make_stripe_dataset(40, 20)
    trained = scheme.train(data, RunContext())
    result = measure_utility(scheme, data, SMOKE, RunContext(), secret=trained.secret).result
    assert result.plain.top1 == trained.provenance["test"]["accuracy_plain"]
    assert result.protected.top1 == trained.provenance["test"]["accuracy_protected"]
    assert not result.training.available
    assert "classifier that its key was trained with" in result.training.reason
    assert result.classifier["width"] == scheme.settings.classifier_width
    with pytest.raises(AttackFailed, match="has the classes lying, standing; stripes has others"):
        measure_utility(scheme, replace(data, classes=("cats", "dogs")), SMOKE, RunContext(), secret=trained.secret)


def no_labels(data: ImageDataset) -> ImageDataset:
    return replace(data, train_labels=np.zeros_like(data.train_labels), test_labels=np.zeros_like(data.test_labels))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (no_labels, "labels of at least two classes"),
        (lambda data: replace(data, test_labels=data.test_labels + 5), "training images of every class"),
        (lambda data: data.take(None, 0), "no test images"),
    ],
    ids=["no labels", "other classes", "no test images"],
)
def test_data_that_cannot_tell_is_a_clear_failure_of_utility_and_a_note_in_a_cell(change, expected):
    data = change(make_stripe_dataset())
    with pytest.raises((AttackFailed, ValueError), match=expected):
        measure("tanaka", data)
    if len(data.test):
        result_cell = run_cell(make_scheme("tanaka", {}), make_attack("none", {}), data, SMOKE, RunContext())
        assert result_cell.result.recogniser is None
        assert any(expected in note for note in result_cell.result.notes)


def test_it_can_be_cancelled():
    def cancel(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        measure_utility(make_scheme("tanaka", {}), make_stripe_dataset(), SMOKE, RunContext(report=cancel))


def test_the_adaptation_network_is_the_convolutions_it_stands_for():
    torch.manual_seed(0)
    ours = Adaptation(32, hidden=8).eval()
    first, second, last = ours.body[0], ours.body[3], ours.body[6]
    x = torch.randn(2, 3, 8, 12)
    # conv 4x4/4; our blocks are (row, column, channel), a convolution's weights (channel, row, column)
    kernel = first.weight.view(8, 4, 4, 3).permute(0, 3, 1, 2)
    y = ours.body[2](
        torch.relu(torch.nn.functional.conv2d(x, kernel, first.bias, 4)).permute(0, 2, 3, 1).reshape(-1, 8)
    )
    y = ours.body[5](torch.relu(second(y)))
    y = last(y).view(2, 2, 3, 16, 2).permute(0, 4, 3, 1, 2).reshape(2, 32, 2, 3)  # as a pixel shuffle wants it
    assert torch.allclose(ours(x), torch.nn.functional.pixel_shuffle(y, 4), atol=1e-5)
    assert (
        sum(p.numel() for p in Adaptation().parameters()) == 3 * 16 * 48 + 48 + 48 * 48 + 48 + 48 * 512 + 512 + 4 * 48
    )


def test_pixels_become_channels_and_nothing_is_lost():
    settings = replace(utility_classifiers.CLASSIFIERS["smoke"], shrink=4)
    network = Classifier(2, settings).eval()
    assert network.network.stem[0].in_channels == 48
    one = torch.rand(1, 3, 24, 26)
    other = one.clone()
    other[0, 1, 5, 7] += 1
    assert not torch.equal(network(one), network(other))
    assert torch.equal(network(one), network(one[..., :24])), "what does not fill a square is left out"


@pytest.mark.parametrize(("lost", "won", "points"), [(0, 0, 0.0), (30, 10, 20.0), (0, 100, -100.0)])
def test_a_drop_is_counted_on_the_same_images(lost, won, points):
    before = np.zeros(100, bool)
    after = np.zeros(100, bool)
    before[:lost] = True
    after[lost : lost + won] = True
    drop = classification_utility._accuracy_drop(before, after)
    assert drop.points == pytest.approx(points)
    assert -100 <= drop.ci_low <= drop.ci_high <= 100
    assert drop.ci_low - 1 <= points <= drop.ci_high + 1


def test_the_interval_of_a_drop_has_its_stated_coverage():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        u = rng.random(200)
        drop = classification_utility._accuracy_drop(u < 0.5, (u < 0.45) | (u > 0.97))  # 5 points lost, 3 won
        covered += drop.ci_low <= 2.0 <= drop.ci_high
    assert covered / 400 > 0.92


def test_one_utility_from_the_command_line(tmp_path, capsys):
    from PIL import Image

    def write(split: str, images: Images, labels) -> None:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / "data" / split / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")

    write("train", *make_stripes(16))
    write("test", *make_stripes(8, seed=1))
    arguments = ["--scheme", "tanaka", "--attack", "utility", "--data", str(tmp_path / "data"), "--profile", "smoke"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["attack"] == {"name": "utility"}
    assert output["result"]["plain"]["n"] == 8
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == output
