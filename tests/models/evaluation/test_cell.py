import gc
import json
import types
from dataclasses import replace

import numpy as np
import pytest

from unveil.models import catalog
from unveil.models.attacks.base import Attack, Material, Outcome
from unveil.models.attacks.none import NoneSettings
from unveil.models.core.checkpoints import Folder
from unveil.models.core.errors import AttackFailed, Cancelled, TrainingFailed
from unveil.models.core.run_context import Context
from unveil.models.core.threat_models import ThreatModel
from unveil.models.data.datasets import sample
from unveil.models.evaluation import cli
from unveil.models.evaluation.cell import Options, _secret, run_cell
from unveil.models.schemes.base import Trained

DATA = sample().first(40, 24)
SMOKE = Options(profile="smoke", keys=2, samples=5)


def cell(scheme, attack, options=SMOKE, data=DATA, **kwargs):
    return run_cell(catalog.make_scheme(*scheme), attack, data, options, Context(), **kwargs)


def named(name, **settings):
    return catalog.make_attack(name, settings)


def test_a_cell_has_figures_samples_and_scores_that_agree():
    done = cell(("pixelwise", {}), named("fr"))
    assert done.result["ssim"]["n"] == 24
    assert done.result["ssim"]["mean"] == pytest.approx(done.scores.ssim.mean())
    assert done.result["ssim"]["mean"] == pytest.approx(np.mean(done.result["ssim"]["per_key"]))
    assert done.result["ssim"]["ci_low"] <= done.result["ssim"]["mean"] <= done.result["ssim"]["ci_high"]
    assert done.result["paper_ssim"] == 0.4646
    assert done.result["identification"]["chance"] == pytest.approx(1 / 24)
    assert done.result["controls"] == {"positive": "passed", "negative": "passed"}
    assert len(done.samples) == 5
    for s in done.samples:
        assert (s.plain == DATA.test[s.index]).all()
    assert done.samples[0].ssim == min(s.ssim for s in done.samples)


def test_the_same_seed_gives_the_same_cell_and_another_seed_other_keys():
    one, two = (cell(("tanaka", {}), named("none")) for _ in range(2))
    other = cell(("tanaka", {}), named("none"), Options(profile="smoke", keys=2, seed=1))
    assert (one.scores.ssim == two.scores.ssim).all()
    assert (one.scores.ssim != other.scores.ssim).any()


def test_a_given_key_is_the_only_one():
    done = cell(("tanaka", {}), named("none"), secret=catalog.new_secret())
    assert "per_key" not in done.result["ssim"]
    assert any("given key" in note for note in done.result["notes"])


def test_brute_force_counts_keys_and_shows_no_images():
    done = cell(("pixelwise", {}), named("brute-force"))
    assert done.result["key_space_bits"] == pytest.approx(51471.01, abs=0.01)
    assert done.result["effective_bits"] == 256
    assert done.result["ssim"] is None
    assert not done.samples


def test_sizes_a_scheme_cannot_take_are_padded_and_noted():
    odd = catalog.make_scheme("tanaka", {})
    data = sample().first(8, 24)
    data = type(data)(**{**vars(data), "test": data.test[:, :90, :95], "train": data.train[:, :90, :95]})
    done = run_cell(odd, named("none"), data, SMOKE, Context())
    first = done.samples[0]
    assert first.protected.shape == (92, 96, 3)
    assert first.plain.shape == first.reconstructed.shape == (90, 95, 3)
    assert any("padded" in note for note in done.result["notes"])


def test_what_padding_added_is_not_scored(monkeypatch):
    data = sample().first(8, 8)
    data = type(data)(**{**vars(data), "test": data.test[:, :49, :49], "train": data.train[:, :49, :49]})
    attack = named("none")

    def run(material, context):  # right wherever there is a picture
        seen = np.zeros_like(material.targets)
        seen[:, :49, :49] = data.test
        return Outcome(reconstructed=seen)

    monkeypatch.setattr(type(attack), "run", lambda _, material, context: run(material, context))
    done = run_cell(catalog.make_scheme("ele", {}), attack, data, SMOKE, Context())
    assert done.result["ssim"]["mean"] == 1
    assert done.scores.psnr.min() > 99
    assert done.result["identification"]["top1"] == 1


def test_public_images_that_are_the_training_images_are_shared_out():
    spy = Spy()
    spy.threat_model = ThreatModel.PUBLIC_IMAGES
    done = run_cell(catalog.make_scheme("tanaka", {}), spy, DATA, SMOKE, Context(), public=DATA.train)
    assert len(spy.seen[0].public) == len(DATA.train) // 2
    assert any("half the owner's" in note for note in done.result["notes"])


def test_public_images_of_a_size_that_the_scheme_cannot_take_are_padded_too():
    data = sample().first(16, 8)
    data = type(data)(**{**vars(data), "test": data.test[:, :34, :34], "train": data.train[:, :34, :34]})
    attack = catalog.make_attack("gan", {"epochs": 1}, "smoke")
    done = run_cell(catalog.make_scheme("tanaka", {}), attack, data, SMOKE, Context(), public=data.train[::2])
    assert done.result["ssim"]["n"] == 8


class Spy(Attack[NoneSettings]):
    """An attack that keeps what it was given."""

    name, title, source, Settings = "spy", "Spy", "tests", NoneSettings
    threat_model = ThreatModel.CIPHERTEXT_ONLY

    def __init__(self, threat_model=ThreatModel.CIPHERTEXT_ONLY, wanted=0):
        super().__init__(NoneSettings())
        self.threat_model = threat_model
        self.wanted = wanted
        self.seen: list[Material] = []

    def observations(self):
        return self.wanted

    def run(self, material, context):
        self.seen.append(material)
        return Outcome(reconstructed=material.targets)


def reachable(root):
    """Every object that can be reached from `root` without going through modules, classes or frames."""
    seen, todo = {}, [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(
            thing, types.ModuleType | type | types.FrameType | types.BuiltinFunctionType
        ):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, types.FunctionType):
            todo += [c.cell_contents for c in thing.__closure__ or ()]
        else:
            todo += gc.get_referents(thing)
    return list(seen.values())


@pytest.mark.parametrize("scheme", [("pixelwise", {}), ("pixelwise", {"key_mode": "different"}), ("tanaka", {})])
@pytest.mark.parametrize("model", list(ThreatModel))
def test_an_attack_reaches_neither_keys_nor_the_plain_images_it_is_scored_on(scheme, model):
    spy = Spy(model, wanted=6)
    secret = catalog.new_secret()
    run_cell(catalog.make_scheme(*scheme), spy, DATA, SMOKE, Context(), secret=secret)
    made = catalog.make_scheme(*scheme)
    key = made.key(secret, 96, 96)
    for thing in reachable(spy.seen[0]):
        assert not (isinstance(thing, bytes) and secret[1:] in thing)
        assert not isinstance(thing, type(key))
        if isinstance(thing, np.ndarray) and thing.dtype == np.uint8 and thing.shape[1:] == DATA.test.shape[1:]:
            for image in thing:
                assert not (image == DATA.test).all(axis=(1, 2, 3)).any()


def test_each_threat_model_gets_its_material_and_no_more():
    for model in ThreatModel:
        spy = Spy(model, wanted=4)
        cell(("pixelwise", {}), spy)
        material = spy.seen[0]
        assert len(material.observed) == 4
        assert (material.public is not None) == (model is ThreatModel.PUBLIC_IMAGES)
        assert (material.pairs is not None) == (model is ThreatModel.KNOWN_PLAINTEXT)
        assert (material.oracle is not None) == (model is ThreatModel.CHOSEN_PLAINTEXT)


def test_each_key_is_watched_on_images_of_its_own_as_far_as_they_go():
    spy = Spy(ThreatModel.KNOWN_PLAINTEXT, wanted=15)
    cell(("pixelwise", {}), spy, replace(SMOKE, keys=3))
    first, second, third = (material.pairs.plain for material in spy.seen[:3])
    assert (first == DATA.train[:15]).all()
    assert (second == DATA.train[15:30]).all()
    assert (third == np.concatenate([DATA.train[30:], DATA.train[:5]])).all()


def test_the_attackers_public_images_are_not_the_observed_ones():
    spy = Spy(ThreatModel.PUBLIC_IMAGES, wanted=None)
    run_cell(catalog.make_scheme("pixelwise", {}), spy, DATA, SMOKE, Context())
    public, observed = spy.seen[0].public, spy.seen[0].observed
    assert len(public) == len(observed) == 20
    scheme = catalog.make_scheme("pixelwise", {})
    plain = scheme.decrypt(observed, scheme.key(_secret(0, 0), 96, 96))
    assert not (plain[:, None] == public[None]).all(axis=(2, 3, 4)).any()


class Taught(catalog.schemes()["pixelwise"]):
    """Pixel-wise encryption whose key is trained: the work is to look at the training images."""

    name, trains = "taught", True

    def train(self, data, context):
        context.report(0.5, "learning")
        context.metric("loss", 1, 0.25)
        context.checkpoints.write("weights.ckpt", b"half a key")
        return Trained(catalog.new_secret(), {"images": len(data.train)})


def test_a_cell_of_a_trained_scheme_trains_its_key_first_on_all_the_training_images(tmp_path):
    told, drawn = [], []
    context = Context(
        checkpoints=Folder(tmp_path), report=lambda *t: told.append(t), metric=lambda name, *_: drawn.append(name)
    )
    scheme, data = Taught(catalog.make_scheme("pixelwise", {}).settings), sample().first(80, 24)
    done = run_cell(scheme, named("none"), data, SMOKE, context)
    assert done.result["trained_key"] == {"images": 80}
    assert told[0] == (0.25, "key: learning")
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)
    assert drawn == ["key_loss"]
    assert (tmp_path / "key" / "weights.ckpt").exists()
    given = run_cell(scheme, named("none"), data, SMOKE, Context(), secret=catalog.new_secret())
    assert "trained_key" not in given.result


class Trainee(Spy):
    """A learned attack: its controls cost as much as itself."""

    learned = True


def test_cells_with_the_same_settings_network_and_images_share_their_controls():
    made: dict[str, bytes] = {}

    def once(name, make):
        if name not in made:
            made[name] = make()
        return made[name]

    shared = Context(shared=once)

    def run(attack, scheme="pixelwise", context=shared, data=DATA):
        done = run_cell(catalog.make_scheme(scheme, {}), attack, data, SMOKE, context)
        return len(attack.seen), done.result

    itn = named("itn")
    assert itn.approach(catalog.make_scheme("pixelwise", {"key_mode": "different"})) == "pixelwise"
    assert itn.approach(catalog.make_scheme("ele", {})) == itn.approach(None) == "unet"
    first, second = run(Trainee()), run(Trainee())
    assert (first[0], second[0]) == (3, 1)
    assert first[1]["controls"] == second[1]["controls"]
    assert any("another cell" in note for note in second[1]["notes"])
    assert not any("another cell" in note for note in first[1]["notes"])
    assert all(name.startswith("controls/") for name in made)
    others = [
        run(Trainee(), "tanaka"),
        run(Trainee(), context=replace(shared, seed=1)),
        run(Trainee(wanted=4), data=DATA.first(30, 24)),
    ]
    assert [trained for trained, _ in others] == [3, 3, 3]


class Blind(Spy):
    """Claims to reconstruct, and always shows the same picture."""

    def run(self, material, context):
        return Outcome(reconstructed=np.broadcast_to(np.uint8(128), material.targets.shape).copy())


class Leaky(Spy):
    """Finds an image even in noise: an instrument that deceives itself."""

    def run(self, material, context):
        return Outcome(reconstructed=DATA.test.copy())


@pytest.mark.parametrize(("images", "enough"), [(1, False), (5, False), (6, True)])
def test_too_few_images_for_a_control_are_named(images, enough):
    done = run_cell(catalog.make_scheme("tanaka", {}), named("none"), sample().first(8, images), SMOKE, Context())
    assert (done.result["controls"]["positive"] == "passed") is enough
    assert any("too few" in note for note in done.result["notes"]) is not enough


def test_a_failed_control_makes_the_verdict_inconclusive():
    blind, leaky = cell(("tanaka", {}), Blind()), cell(("tanaka", {}), Leaky())
    assert blind.result["controls"]["positive"] == "failed"
    assert blind.result["verdict"] == "inconclusive"
    assert leaky.result["controls"]["negative"] == "failed"


@pytest.mark.parametrize(
    ("failure", "said"),
    [(AttackFailed("no key explains them"), "passed"), (TrainingFailed("too little memory"), "failed")],
)
def test_noise_in_which_there_is_nothing_passes_and_a_training_that_broke_off_does_not(failure, said):
    class Broken(Spy):
        def run(self, material, context):
            self.seen.append(material)
            if len(self.seen) == SMOKE.keys + 2:  # each key, the positive control, the negative one
                raise failure
            return Outcome(reconstructed=255 - material.targets)

    assert cell(("tanaka", {}), Broken()).result["controls"] == {"positive": "passed", "negative": said}


def test_an_attack_that_trains_by_its_settings_does_so_once_on_one_key():
    made: dict[str, bytes] = {}
    context = Context(shared=lambda name, make: made.setdefault(name, made.get(name) or make()))
    attack = catalog.make_attack("simulated-pairs", {"weights": "tune", "epochs": 1, "batch": 8})
    scheme = catalog.make_scheme("pixelwise", {"key_mode": "different"})
    done = run_cell(scheme, attack, DATA.first(8, 8), replace(SMOKE, keys=3), context)
    assert sorted(name.partition("/")[0] for name in made) == ["controls", "sign-unet"]
    assert "per_key" not in done.result["ssim"]
    assert any("first key only" in note for note in done.result["notes"])
    shipped = run_cell(scheme, named("simulated-pairs"), DATA.first(8, 8), replace(SMOKE, keys=3), context)
    assert len(shipped.result["ssim"]["per_key"]) == 3


def test_an_attack_that_brings_back_no_image_fails_with_a_reason():
    class Empty(Spy):
        def run(self, material, context):
            return Outcome()

    with pytest.raises(AttackFailed, match="no image"):
        cell(("tanaka", {}), Empty())


def test_progress_rises_to_the_controls_and_cancel_stops():
    told = []
    run_cell(
        catalog.make_scheme("tanaka", {}), named("none"), DATA, SMOKE, Context(report=lambda f, p: told.append((f, p)))
    )
    assert told[-1][1] == "controls"
    assert [f for f, _ in told] == sorted(f for f, _ in told)

    def cancel(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        run_cell(catalog.make_scheme("tanaka", {}), named("none"), DATA, SMOKE, Context(report=cancel))


def test_one_cell_from_the_command_line(tmp_path, capsys):
    given = ["--scheme", "pixelwise:different", "--attack", "fr", "--data", "sample", "--profile", "smoke"]
    assert cli.main([*given, "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scheme"] == {"name": "pixelwise", "key_mode": "different"}
    assert (told["training_images"], told["test_images"]) == (64, 32)
    assert json.loads((tmp_path / "result.json").read_text()) == told
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0] == "index,ssim,psnr,rank"
    assert len(rows) == 1 + told["result"]["ssim"]["n"]
    assert len(list((tmp_path / "samples").iterdir())) == 3 * 8


@pytest.mark.parametrize(
    "wrong", [["--scheme", "rot13"], ["--attack", "fr:L=9"], ["--data", "/nowhere"], ["--attack", "fr:loud"]]
)
def test_wrong_usage_exits_with_2(wrong, tmp_path, capsys):
    given = {"--scheme": "tanaka", "--attack": "none", "--data": "sample", "--out": str(tmp_path)}
    given[wrong[0]] = wrong[1]
    with pytest.raises(SystemExit) as caught:
        cli.main([part for pair in given.items() for part in pair])
    assert caught.value.code == 2
    assert wrong[1].split(":")[-1].split("=")[0] in capsys.readouterr().err


def test_starting_anew_removes_old_checkpoints_and_nothing_else(tmp_path):
    given = ["--scheme", "tanaka", "--attack", "none", "--data", "sample", "--out", str(tmp_path)]
    precious, old = tmp_path / "checkpoints" / "precious.txt", tmp_path / "checkpoints" / "control" / "itn.ckpt"
    old.parent.mkdir(parents=True)
    for file in (precious, old):
        file.write_text("mine")
    assert cli.main([*given, "--limit-seconds", "0", "--resume"]) == 1
    assert old.exists()
    assert cli.main([*given, "--limit-seconds", "0"]) == 1
    assert (precious.exists(), old.exists()) == (True, False)


@pytest.mark.parametrize("wrong", [{"--out": __file__}, {"--limit-seconds": "-1"}, {"--limit-seconds": "nan"}])
def test_what_cannot_be_done_is_said_before_it_begins(wrong, tmp_path, capsys):
    given = {"--scheme": "tanaka", "--attack": "none", "--data": "sample", "--out": str(tmp_path), **wrong}
    with pytest.raises(SystemExit) as caught:
        cli.main([part for pair in given.items() for part in pair])
    assert caught.value.code == 2
    assert next(iter(wrong)) in capsys.readouterr().err


def test_a_slice_stops_at_its_limit(tmp_path):
    given = ["--scheme", "tanaka", "--attack", "none", "--data", "sample", "--out", str(tmp_path)]
    assert cli.main([*given, "--limit-seconds", "0"]) == 1
    assert not (tmp_path / "result.json").exists()
