import gc
import json
import types
from dataclasses import replace

import numpy as np
import pytest

from tests.models.evaluation.verdict_cases import memoize
from unveil.models import catalog
from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.cell_result import Controls
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.errors import AttackFailed, Cancelled, TrainingFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability, ThreatModel
from unveil.models.data.sample import sample
from unveil.models.evaluation import cli
from unveil.models.evaluation.attacker_view import split_images
from unveil.models.evaluation.cell import _derive_secret, run_cell
from unveil.models.evaluation.controls import run_controls
from unveil.models.evaluation.originals import Originals
from unveil.models.evaluation.owner_model import train_owner_model
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.metrics.significance import NullDistribution
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import NoSettings, TrainedKey

DATA = sample().take(40, 24)
SMOKE = ScoringOptions(profile="smoke", keys=2, samples=5)
MEMOIZING = RunContext(memoize=memoize)  # calibrations take longer than most attacks


def run_test_cell(scheme, attack, options=SMOKE, data=DATA, **kwargs):
    return run_cell(catalog.make_scheme(*scheme), attack, data, options, MEMOIZING, **kwargs)


def make_attack(name, **settings):
    return catalog.make_attack(name, settings)


def test_a_cell_has_figures_samples_and_scores_that_agree():
    result_cell = run_test_cell(("pixelwise", {}), make_attack("fr"))
    assert result_cell.result.ssim.n == 24
    assert result_cell.result.ssim.mean == pytest.approx(result_cell.scores.ssim.mean())
    assert result_cell.result.ssim.mean == pytest.approx(np.mean(result_cell.result.ssim.per_key))
    assert result_cell.result.ssim.ci_low <= result_cell.result.ssim.mean <= result_cell.result.ssim.ci_high
    assert result_cell.result.paper_ssim == 0.4646
    assert result_cell.result.identification.chance == pytest.approx(1 / 24)
    assert result_cell.result.controls == Controls(positive="passed", negative="passed")
    assert len(result_cell.samples) == 5
    for s in result_cell.samples:
        assert (s.plain == DATA.test[s.index]).all()
    assert [s.index for s in result_cell.samples[:2]] == result_cell.result.leaking_images[:2]
    others = [s.ssim for s in result_cell.samples[2:]]
    assert others == sorted(others)


def test_every_image_is_kept_under_the_first_key_with_its_line_up():
    cell = run_test_cell(("pixelwise", {}), make_attack("fr"))
    images, result = cell.images, cell.result
    assert images.originals is not None
    assert (images.originals == DATA.test).all()
    assert images.ssim.mean() == pytest.approx(result.ssim.per_key[0])
    assert images.ssim == pytest.approx(ssim(images.originals, images.reconstructed, result.ssim.mode))
    assert images.line_up.comparison == result.identification.comparison
    assert (images.line_up.ranks == 1).mean() == pytest.approx(result.identification.per_key[0])
    for s in cell.samples:
        assert (images.protected[s.index] == s.protected).all()
        assert (images.reconstructed[s.index] == s.reconstructed).all()


@pytest.mark.parametrize("samples", [3, 4, 8])
def test_the_median_image_is_among_the_samples(samples):
    options = replace(SMOKE, keys=1, samples=samples)
    cell = run_test_cell(("tanaka", {}), make_attack("none"), options)
    median = cell.result.median_image
    assert (cell.images.ssim < cell.images.ssim[median]).sum() == (len(DATA.test) - 1) // 2
    assert median in [s.index for s in cell.samples]
    assert len(cell.samples) == samples


def test_the_same_seed_gives_the_same_cell_and_another_seed_other_keys():
    one, two = (run_test_cell(("tanaka", {}), make_attack("none")) for _ in range(2))
    other = run_test_cell(("tanaka", {}), make_attack("none"), ScoringOptions(profile="smoke", keys=2, seed=1))
    assert (one.scores.ssim == two.scores.ssim).all()
    assert (one.scores.ssim != other.scores.ssim).any()


def test_a_given_key_is_the_only_one():
    result_cell = run_test_cell(("tanaka", {}), make_attack("none"), secret=catalog.new_secret())
    assert result_cell.result.ssim.per_key is None
    assert any("given key" in note for note in result_cell.result.notes)


def test_brute_force_counts_keys_and_shows_no_images():
    result_cell = run_test_cell(("pixelwise", {}), make_attack("brute-force"))
    assert result_cell.result.key_space_bits == pytest.approx(51471.01, abs=0.01)
    assert result_cell.result.effective_bits == 256
    assert result_cell.result.ssim is None
    assert not result_cell.samples


def test_sizes_a_scheme_cannot_take_are_padded_and_noted():
    odd = catalog.make_scheme("tanaka", {})
    data = sample().take(8, 24)
    data = type(data)(**{**vars(data), "test": data.test[:, :90, :95], "train": data.train[:, :90, :95]})
    result_cell = run_cell(odd, make_attack("none"), data, SMOKE, MEMOIZING)
    first = result_cell.samples[0]
    assert first.protected.shape == (92, 96, 3)
    assert first.plain.shape == first.reconstructed.shape == (90, 95, 3)
    assert any("padded" in note for note in result_cell.result.notes)


def test_what_padding_added_is_not_scored(monkeypatch):
    data = sample().take(8, 8)
    data = type(data)(**{**vars(data), "test": data.test[:, :49, :49], "train": data.train[:, :49, :49]})
    attack = make_attack("none")

    def run(attack_input, context):  # right wherever there is a picture
        reconstructed = np.zeros_like(attack_input.targets)
        reconstructed[:, :49, :49] = np.resize(data.test, (len(reconstructed), 49, 49, 3))
        return AttackResult(reconstructed=reconstructed)

    monkeypatch.setattr(type(attack), "run", lambda _, attack_input, context: run(attack_input, context))
    result_cell = run_cell(catalog.make_scheme("ele", {}), attack, data, SMOKE, MEMOIZING)
    assert result_cell.result.ssim.mean == 1
    assert result_cell.scores.psnr.min() > 99
    assert result_cell.result.identification.top1 == 1


def test_public_images_that_are_the_training_images_are_shared_out():
    spy = RecordingAttack()
    spy.threat_model = ThreatModel.PUBLIC_IMAGES
    result_cell = run_cell(catalog.make_scheme("tanaka", {}), spy, DATA, SMOKE, MEMOIZING, public=DATA.train)
    assert len(spy.inputs[0].public) == len(DATA.train) // 2
    assert any("half the owner's" in note for note in result_cell.result.notes)


def test_public_images_of_a_size_that_the_scheme_cannot_take_are_padded_too():
    data = sample().take(16, 8)
    data = type(data)(**{**vars(data), "test": data.test[:, :34, :34], "train": data.train[:, :34, :34]})
    attack = catalog.make_attack("gan", {"epochs": 1}, "smoke")
    result_cell = run_cell(catalog.make_scheme("tanaka", {}), attack, data, SMOKE, MEMOIZING, public=data.train[::2])
    assert result_cell.result.ssim.n == 8


class RecordingAttack(Attack[NoSettings]):
    """An attack that keeps what it was given."""

    name, title, source, Settings = "spy", "Spy", "tests", NoSettings
    threat_model = ThreatModel.CIPHERTEXT_ONLY

    def __init__(self, threat_model=ThreatModel.CIPHERTEXT_ONLY, ciphertext_count=0):
        super().__init__(NoSettings())
        self.threat_model = threat_model
        self.ciphertext_count = ciphertext_count
        self.inputs: list[AttackInput] = []

    def required_ciphertexts(self):
        return self.ciphertext_count

    def run(self, attack_input, context):
        self.inputs.append(attack_input)
        return AttackResult(reconstructed=attack_input.targets)


def reachable(root):
    """Every object that can be reached from `root` without going through modules, classes or frames."""
    visited, todo = {}, [root]
    while todo:
        item = todo.pop()
        if id(item) in visited or isinstance(
            item, types.ModuleType | type | types.FrameType | types.BuiltinFunctionType
        ):
            continue
        visited[id(item)] = item
        if isinstance(item, types.FunctionType):
            todo += [c.cell_contents for c in item.__closure__ or ()]
        else:
            todo += gc.get_referents(item)
    return list(visited.values())


@pytest.mark.parametrize("scheme", [("pixelwise", {}), ("pixelwise", {"key_mode": "different"}), ("tanaka", {})])
@pytest.mark.parametrize("model", catalog.NAMED_THREAT_MODELS, ids=lambda model: model.name)
def test_an_attack_reaches_neither_keys_nor_the_plain_images_it_is_scored_on(scheme, model):
    spy = RecordingAttack(model, ciphertext_count=6)
    secret = catalog.new_secret()
    run_cell(catalog.make_scheme(*scheme), spy, DATA, SMOKE, MEMOIZING, secret=secret)
    scheme_object = catalog.make_scheme(*scheme)
    key = scheme_object.key(secret, 96, 96)
    # The oracle is a closure that hides the key by convention only.
    for item in reachable(replace(spy.inputs[0], oracle=None)):
        assert not (isinstance(item, bytes) and secret[1:] in item)
        assert not isinstance(item, type(key))
        if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.shape[1:] == DATA.test.shape[1:]:
            for image in item:
                assert not (image == DATA.test).all(axis=(1, 2, 3)).any()


def test_each_threat_model_gets_its_material_and_no_more():
    for model in catalog.NAMED_THREAT_MODELS:
        spy = RecordingAttack(model, ciphertext_count=4)
        run_test_cell(("pixelwise", {}), spy)
        attack_input = spy.inputs[0]
        assert len(attack_input.observed) == 4
        assert (attack_input.public is not None) == (model == ThreatModel.PUBLIC_IMAGES)
        assert (attack_input.pairs is not None) == (model == ThreatModel.KNOWN_PLAINTEXT)
        assert (attack_input.oracle is not None) == (model == ThreatModel.CHOSEN_PLAINTEXT)


def test_labels_belong_to_the_observed_images():
    spy = RecordingAttack(ThreatModel.of(Capability.LABELS, Capability.PUBLIC_IMAGES), ciphertext_count=5)
    run_cell(catalog.make_scheme("pixelwise", {}), spy, DATA, replace(SMOKE, keys=2), RunContext())
    first, second = (attack_input.labels for attack_input in spy.inputs[:2])
    assert (first == DATA.train_labels[0:10:2]).all()
    assert (second == DATA.train_labels[10:20:2]).all()
    assert spy.threat_model.name == "+public images +labels"


def test_a_model_is_the_owners_classifier_of_images_under_the_attacked_key():
    spy = RecordingAttack(ThreatModel.of(Capability.MODEL))
    scheme, secret = catalog.make_scheme("pixelwise", {}), catalog.new_secret()
    outcome = run_cell(scheme, spy, DATA, SMOKE, MEMOIZING, secret=secret)
    attacked, of_negatives, of_noise = (attack_input.model for attack_input in spy.inputs)
    probabilities = attacked(spy.inputs[0].targets)
    assert probabilities.shape == (24, DATA.train_labels.max() + 1)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(24), abs=1e-5)
    protected = scheme.protect(DATA.train, secret, len(DATA.test))
    expected = train_owner_model(scheme, protected, DATA.train_labels, MEMOIZING)(spy.inputs[0].targets)
    assert (probabilities == expected).all()
    assert not np.array_equal(of_negatives(spy.inputs[0].targets), of_noise(spy.inputs[0].targets))
    assert outcome.result.capabilities == ["ciphertexts", "model"]
    assert spy.inputs[0].labels is None


def test_an_attack_on_a_model_needs_labels_for_the_owners_classifier():
    one_class = replace(DATA, train_labels=np.zeros_like(DATA.train_labels))
    with pytest.raises(AttackFailed, match="labels of at least two classes"):
        run_test_cell(("pixelwise", {}), RecordingAttack(ThreatModel.of(Capability.MODEL)), data=one_class)


def test_each_key_is_watched_on_images_of_its_own_as_far_as_they_go():
    spy = RecordingAttack(ThreatModel.KNOWN_PLAINTEXT, ciphertext_count=15)
    run_test_cell(("pixelwise", {}), spy, replace(SMOKE, keys=3))
    first, second, third = (attack_input.pairs.plain for attack_input in spy.inputs[:3])
    assert (first == DATA.train[:15]).all()
    assert (second == DATA.train[15:30]).all()
    assert (third == np.concatenate([DATA.train[30:], DATA.train[:5]])).all()


def test_the_attackers_public_images_are_not_the_observed_ones():
    spy = RecordingAttack(ThreatModel.PUBLIC_IMAGES, ciphertext_count=None)
    run_cell(catalog.make_scheme("pixelwise", {}), spy, DATA, SMOKE, MEMOIZING)
    public, observed = spy.inputs[0].public, spy.inputs[0].observed
    assert len(public) == len(observed) == 20
    scheme = catalog.make_scheme("pixelwise", {})
    plain = scheme.decrypt(observed, scheme.key(_derive_secret(0, 0), 96, 96))
    assert not (plain[:, None] == public[None]).all(axis=(2, 3, 4)).any()


class TrainedPixelwise(catalog.schemes()["pixelwise"]):
    """Pixel-wise encryption whose key is trained: the work is to look at the training images."""

    name, trains = "taught", True

    def train(self, data, context):
        context.report(0.5, "learning")
        context.metric("loss", 1, 0.25)
        context.checkpoints.write("weights.ckpt", b"half a key")
        return TrainedKey(catalog.new_secret(), {"images": len(data.train)})


def test_a_cell_of_a_trained_scheme_trains_its_key_first_on_all_the_training_images(tmp_path):
    reports, drawn = [], []
    context = RunContext(
        checkpoints=DirectoryStore(tmp_path),
        report=lambda *t: reports.append(t),
        metric=lambda name, *_: drawn.append(name),
    )
    scheme, data = TrainedPixelwise(catalog.make_scheme("pixelwise", {}).settings), sample().take(80, 24)
    result_cell = run_cell(scheme, make_attack("none"), data, SMOKE, context)
    assert result_cell.result.trained_key == {"images": 80}
    assert reports[0] == (0.25, "key: learning")
    assert [fraction for fraction, _ in reports] == sorted(fraction for fraction, _ in reports)
    assert drawn == ["key_loss"]
    assert (tmp_path / "key" / "weights.ckpt").exists()
    cell_with_key = run_cell(scheme, make_attack("none"), data, SMOKE, MEMOIZING, secret=catalog.new_secret())
    assert cell_with_key.result.trained_key is None


class LearningAttack(RecordingAttack):
    """A learned attack: its controls cost as much as itself."""

    learning_based = True


def test_cells_with_the_same_settings_network_and_images_share_their_controls():
    computed: dict[str, bytes] = {}

    def once(name, make):
        if name not in computed:
            computed[name] = make()
        return computed[name]

    shared_context = RunContext(memoize=once)

    def run(attack, scheme="pixelwise", context=shared_context, data=DATA):
        result_cell = run_cell(catalog.make_scheme(scheme, {}), attack, data, SMOKE, context)
        return len(attack.inputs), result_cell.result

    itn = make_attack("itn")
    assert itn.control_cache_key(catalog.make_scheme("pixelwise", {"key_mode": "different"})) == "pixels"
    assert itn.control_cache_key(catalog.make_scheme("ele", {})) == itn.control_cache_key(None) == "unet"
    first, second = run(LearningAttack()), run(LearningAttack())
    assert (first[0], second[0]) == (3, 1)
    assert first[1].controls == second[1].controls
    assert any("another cell" in note for note in second[1].notes)
    assert not any("another cell" in note for note in first[1].notes)
    assert all(name.startswith("controls/") for name in computed)
    others = [
        run(LearningAttack(), "tanaka"),
        run(LearningAttack(), context=replace(shared_context, seed=1)),
        run(LearningAttack(ciphertext_count=4), data=DATA.take(30, 24)),
    ]
    assert [trained for trained, _ in others] == [3, 3, 3]


class ConstantAttack(RecordingAttack):
    """Claims to reconstruct, and always shows the same picture."""

    def run(self, attack_input, context):
        return AttackResult(reconstructed=np.broadcast_to(np.uint8(128), attack_input.targets.shape).copy())


class CheatingAttack(RecordingAttack):
    """Finds an image even in noise: an instrument that deceives itself."""

    def run(self, attack_input, context):
        return AttackResult(reconstructed=np.resize(DATA.test, attack_input.targets.shape))


@pytest.mark.parametrize(("images", "positive"), [(1, "failed"), (5, "passed")])
def test_a_single_image_without_distractors_cannot_be_identified(images, positive):
    result_cell = run_cell(
        catalog.make_scheme("pixelwise", {}), make_attack("none"), sample().take(8, images), SMOKE, MEMOIZING
    )
    assert result_cell.result.controls.positive == positive
    assert result_cell.result.verdict == "inconclusive"


def test_a_failed_control_makes_the_verdict_inconclusive():
    blind, leaky = run_test_cell(("tanaka", {}), ConstantAttack()), run_test_cell(("tanaka", {}), CheatingAttack())
    assert blind.result.controls.positive == "failed"
    assert blind.result.verdict == "inconclusive"
    assert leaky.result.controls.negative == "failed"


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(AttackFailed("no key explains them"), "passed"), (TrainingFailed("too little memory"), "failed")],
)
def test_noise_in_which_there_is_nothing_passes_and_a_training_that_broke_off_does_not(failure, expected):
    class Broken(RecordingAttack):
        def run(self, attack_input, context):
            self.inputs.append(attack_input)
            if len(self.inputs) == SMOKE.keys + 2:  # each key, the positive control, the negative one
                raise failure
            return AttackResult(reconstructed=255 - attack_input.targets)

    assert run_test_cell(("tanaka", {}), Broken()).result.controls == Controls(positive="passed", negative=expected)


def test_an_attack_that_trains_by_its_settings_does_so_once_on_one_key():
    computed: dict[str, bytes] = {}
    context = RunContext(memoize=lambda name, make: computed.setdefault(name, computed.get(name) or make()))
    attack = catalog.make_attack("simulated-pairs", {"weights": "tune", "epochs": 1, "batch": 8})
    scheme = catalog.make_scheme("pixelwise", {"key_mode": "different"})
    data = replace(DATA.take(8, 8), train=DATA.train[:8, :32, :32], test=DATA.test[:8, :32, :32])
    result_cell = run_cell(scheme, attack, data, replace(SMOKE, keys=3), context)
    assert sorted(name.partition("/")[0] for name in computed) == ["controls", "sign-unet"]
    assert result_cell.result.ssim.per_key is None
    assert any("first key only" in note for note in result_cell.result.notes)
    shipped = run_cell(scheme, make_attack("simulated-pairs"), data, replace(SMOKE, keys=3), context)
    assert len(shipped.result.ssim.per_key) == 3


def test_an_attack_that_brings_back_no_image_fails_with_a_reason():
    class Empty(RecordingAttack):
        def run(self, attack_input, context):
            return AttackResult()

    with pytest.raises(AttackFailed, match="did not return one image"):
        run_test_cell(("tanaka", {}), Empty())


def test_progress_rises_to_the_controls_and_cancel_stops():
    reports = []
    run_cell(
        catalog.make_scheme("tanaka", {}),
        make_attack("none"),
        DATA,
        SMOKE,
        RunContext(report=lambda f, p: reports.append((f, p))),
    )
    assert reports[-1][1] == "controls"
    assert [f for f, _ in reports] == sorted(f for f, _ in reports)

    def cancel(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        run_cell(catalog.make_scheme("tanaka", {}), make_attack("none"), DATA, SMOKE, RunContext(report=cancel))


def test_one_cell_from_the_command_line(tmp_path, capsys):
    arguments = ["--scheme", "pixelwise:different", "--attack", "fr", "--data", "sample", "--profile", "smoke"]
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["scheme"] == {"name": "pixelwise", "key_mode": "different"}
    assert (output["training_images"], output["test_images"]) == (64, 32)
    assert json.loads((tmp_path / "result.json").read_text()) == output
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0] == "index,ssim,psnr,rank,vif"
    assert len(rows) == 1 + output["result"]["ssim"]["n"]
    assert len(list((tmp_path / "samples").iterdir())) == 3 * 8


@pytest.mark.parametrize(
    "wrong", [["--scheme", "rot13"], ["--attack", "fr:L=9"], ["--data", "/nowhere"], ["--attack", "fr:loud"]]
)
def test_wrong_usage_exits_with_2(wrong, tmp_path, capsys):
    arguments = {"--scheme": "tanaka", "--attack": "none", "--data": "sample", "--out": str(tmp_path)}
    arguments[wrong[0]] = wrong[1]
    with pytest.raises(SystemExit) as caught:
        cli.main([part for pair in arguments.items() for part in pair])
    assert caught.value.code == 2
    assert wrong[1].split(":")[-1].split("=")[0] in capsys.readouterr().err


def test_starting_anew_removes_old_checkpoints_and_nothing_else(tmp_path):
    arguments = ["--scheme", "tanaka", "--attack", "none", "--data", "sample", "--out", str(tmp_path)]
    precious, old = tmp_path / "checkpoints" / "precious.txt", tmp_path / "checkpoints" / "control" / "itn.ckpt"
    old.parent.mkdir(parents=True)
    for file in (precious, old):
        file.write_text("mine")
    assert cli.main([*arguments, "--limit-seconds", "0", "--resume"]) == 1
    assert old.exists()
    assert cli.main([*arguments, "--limit-seconds", "0"]) == 1
    assert (precious.exists(), old.exists()) == (True, False)


@pytest.mark.parametrize("wrong", [{"--out": __file__}, {"--limit-seconds": "-1"}, {"--limit-seconds": "nan"}])
def test_an_invalid_call_is_reported_before_it_starts(wrong, tmp_path, capsys):
    arguments = {"--scheme": "tanaka", "--attack": "none", "--data": "sample", "--out": str(tmp_path), **wrong}
    with pytest.raises(SystemExit) as caught:
        cli.main([part for pair in arguments.items() for part in pair])
    assert caught.value.code == 2
    assert next(iter(wrong)) in capsys.readouterr().err


def test_a_slice_stops_at_its_limit(tmp_path):
    arguments = ["--scheme", "tanaka", "--attack", "none", "--data", "sample", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--limit-seconds", "0"]) == 1
    assert not (tmp_path / "result.json").exists()


def test_controls_that_an_earlier_version_stored_are_read():
    stored = (
        b'{"controls": {"positive": "passed", "negative": "failed"}, '
        b'"nulls": {"pixels": {"threshold": 0.5, "tail_share": 0.01, "scale": 0.1, "shape": 0.2, "freedom": 0}}}'
    )
    attack = make_attack("gan")
    image_split = split_images(attack, DATA.test, DATA.train)
    context = RunContext(memoize=lambda _, compute: stored)
    run = run_controls(None, attack, image_split, Originals.build(DATA.test), context)
    assert run.controls == Controls(positive="passed", negative="failed")
    assert run.nulls == {"pixels": NullDistribution(0.5, 0.01, 0.1, 0.2)}
    assert run.notes == ["controls: those of another cell with the same settings, network and images"]
