"""The contract tests of schemes, attacks and metrics, for built-ins and plug-ins alike.

    from unveil.testing import check_scheme
    check_scheme(MyScheme)          # raises CheckFailed with every failure: expected, got, why it matters

`unveil plugins check` runs this module. `pytest -p unveil.testing --unveil-plugin FILE|MODULE` adds a test a check.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from unveil.models import catalog, registry
from unveil.models.attacks.base import Attack, AttackInput
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.images import Images, pad
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import ParameterError, json_schema
from unveil.models.core.structure import PixelMap, is_fixed_block_map, moves_nibbles
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.sample import sample
from unveil.models.evaluation.attacker_view import build_attack_input, protect_function, split_images
from unveil.models.metrics.base import Metric
from unveil.models.recovery import chosen_plaintext
from unveil.models.schemes.base import Scheme, image_secret, seed_secret
from unveil.models.schemes.tanaka import BLOCK

__all__ = ["CheckFailed", "check_attack", "check_metric", "check_scheme", "checks_of"]

Check = Callable[[], None]

SECRET, OTHER_SECRET = seed_secret(bytes(range(32))), seed_secret(bytes(range(1, 33)))
_DECLARATIONS = "declarations"
SIDES = ((96, 96), (13, 30), (1, 1))


class CheckFailed(AssertionError):
    """A class does not keep the contract."""


def _failure(expected: str, got: object, why: str) -> CheckFailed:
    return CheckFailed(f"expected: {expected}\n  got: {got}\n  why it matters: {why}")


def check_scheme(cls: type[Scheme[Any, Any]]) -> list[str]:
    """Run every check of a scheme class and return their names. Raises CheckFailed with all failures."""
    return _run_all(cls)


def check_attack(cls: type[Attack[Any]]) -> list[str]:
    return _run_all(cls)


def check_metric(cls: type[Metric]) -> list[str]:
    return _run_all(cls)


def checks_of(cls: type[Any]) -> Iterator[tuple[str, Check]]:
    """The name and the function of every check that applies to a class."""
    yield _DECLARATIONS, partial(_check_declarations, cls)
    if issubclass(cls, Metric):
        yield "scores", partial(_check_scores, cls())
    elif issubclass(cls, Attack):
        for name, scheme in _schemes_for(cls):
            yield f"run on {name}", partial(_check_run, cls, scheme)
    elif not cls.trains:
        for settings in catalog.variants_of(cls):
            label = ", ".join(map(str, settings.values()))
            for check in _SCHEME_CHECKS:
                name = check.__name__.removeprefix("_check_").replace("_", " ")
                yield f"{name} ({label})" if label else name, partial(check, cls(cls.Settings(**settings)))


def _run_all(cls: type[Any]) -> list[str]:
    passed, failures = [], []
    for name, check in checks_of(cls):
        try:
            check()
        except CheckFailed as error:
            failures.append(f"{name}\n  {error}")
        except Exception as error:
            failures.append(f"{name}\n  raised {type(error).__name__}: {error}")
        else:
            passed.append(name)
        if failures and name == _DECLARATIONS:  # every other check relies on them
            break
    if failures:
        raise CheckFailed("\n".join(failures))
    return passed


def _photographs(count: int, height: int, width: int, multiple: int = 1) -> Images:
    return pad(sample().test[:count, :height, :width].copy(), multiple)  # a faulty scheme may write into them


def _require(condition: object, expected: str, got: object, why: str) -> None:
    if not condition:
        raise _failure(expected, got, why)


def _check_declarations(cls: type[Any]) -> None:
    if not cls.__module__.startswith("unveil."):
        registry.check_plugin_name(cls.name)
    _require(
        isinstance(cls.api_version, int) and cls.api_version <= registry.API_VERSION,
        f"api_version at most {registry.API_VERSION}", cls.api_version,
        "a newer plug-in relies on an interface that this Unveil does not have",
    )  # fmt: skip
    if issubclass(cls, Metric):
        return
    _require(
        dataclasses.is_dataclass(cls.Settings) and vars(cls.Settings)["__dataclass_params__"].frozen,
        "`Settings`: a frozen dataclass whose fields have defaults", cls.Settings,
        "requests are validated by it, and the API describes it as JSON Schema",
    )  # fmt: skip
    cls(cls.Settings())
    json_schema(cls.Settings)


def _check_images(scheme: Scheme[Any, Any]) -> None:
    for height, width in SIDES:
        for count in (3, 0):
            plain = _photographs(count, height, width, scheme.size_multiple)
            before = plain.copy()
            form, key = scheme.ciphertext, scheme.key(SECRET, *plain.shape[1:3])
            protected = scheme.encrypt(plain, key)
            shape = (count, *form.shape_for(*plain.shape[1:3]))
            _require(
                isinstance(protected, np.ndarray) and (protected.dtype, protected.shape) == (form.dtype, shape),
                f"`encrypt` returns {form.dtype} {list(shape)}, as `ciphertext` declares",
                f"{getattr(protected, 'dtype', type(protected))} {list(getattr(protected, 'shape', ()))}",
                "the 8-bit view that a client receives is made from it",
            )  # fmt: skip
            _require(
                not count or (protected.min() >= form.low and protected.max() <= form.high),
                f"values from {form.low} to {form.high}, as `ciphertext` declares", protected.reshape(-1)[:3],
                "the 8-bit view maps this range to 0..255 and clips the rest",
            )  # fmt: skip
            if form.shape is None or type(scheme).from_view is not Scheme.from_view:
                made = scheme.from_view(plain)
                _require(
                    (made.dtype, made.shape) == (form.dtype, shape), f"`from_view` returns {form.dtype} {list(shape)}",
                    f"{made.dtype} {list(made.shape)}", "the controls of attacks that take ciphertexts consist of it",
                )  # fmt: skip
            view = scheme.view(protected, plain.shape)
            _require(
                (view.dtype, view.shape) == (plain.dtype, plain.shape), f"`view` returns uint8 {list(plain.shape)}",
                f"{view.dtype} {list(view.shape)}", "scores see this image, and attacks unless they take ciphertexts",
            )  # fmt: skip
            _require(
                (plain == before).all(), "`encrypt` leaves its input unchanged", "it wrote into the images",
                "the originals would be scored against themselves",
            )  # fmt: skip


def _check_keys(scheme: Scheme[Any, Any]) -> None:
    plain = _photographs(2, 96, 96, scheme.size_multiple)
    protected = scheme.protect(plain, SECRET)
    _require(
        (protected == scheme.protect(plain, SECRET)).all(), "the same secret gives the same ciphertext",
        "two calls differ", "results could not be repeated; draw from the seed in `derive`, not from global state",
    )  # fmt: skip
    changed = float((protected != scheme.protect(plain, OTHER_SECRET)).mean())
    _require(
        changed > 0.01, "another secret gives another ciphertext", f"{100 * changed:.1f} % of the values differ",
        "what does not depend on the key hides nothing from an attacker who knows the algorithm",
    )  # fmt: skip
    bits = scheme.key_space_bits(*plain.shape[1:3])
    _require(
        bits is None or (np.isfinite(bits) and bits > 0), "`key_space_bits` is a positive number or None", bits,
        "it is reported as the cost of an exhaustive search",
    )  # fmt: skip


def _check_key_per_image(scheme: Scheme[Any, Any]) -> None:
    plain = np.repeat(_photographs(1, 32, 32, scheme.size_multiple), 3, axis=0)
    protected = scheme.protect(plain, SECRET, 5)
    equal = bool((protected[0] == protected[1]).all())
    _require(
        equal != scheme.key_per_image, f"`key_per_image` is {equal is False}", scheme.key_per_image,
        "attacks that need one key for all images apply to a scheme or not by this declaration",
    )  # fmt: skip
    _require(
        (scheme.protect(plain[1:], SECRET, 6) == protected[1:]).all(), "image i has the same key in every slice",
        "the ciphertext depends on the other images of the call", "datasets are protected in parts",
    )  # fmt: skip


def _check_decryption(scheme: Scheme[Any, Any]) -> None:
    why = "a client who trusts the declaration loses images; delete `decrypt` if the scheme has no exact inverse"
    for height, width in SIDES:
        plain = _photographs(2, height, width, scheme.size_multiple)
        key = scheme.key(image_secret(SECRET, 0) if scheme.key_per_image else SECRET, *plain.shape[1:3])
        if not scheme.invertible:
            return
        protected = scheme.encrypt_to_images(plain, key)
        wrong = float((scheme.decrypt(protected, key) != plain).mean())
        _require(wrong == 0, "the scheme declares `invertible`: decryption is exact, bit for bit",
                 f"{100 * wrong:.1f} % of the values differ at {width}x{height}", why)  # fmt: skip


def _check_explicit_keys(scheme: Scheme[Any, Any]) -> None:
    if not scheme.has_explicit_keys:
        return
    plain = _photographs(1, 96, 96, scheme.size_multiple)
    key = scheme.key(SECRET, *plain.shape[1:3])
    material = scheme.key_to_json(key)
    again = scheme.key(scheme.key_to_secret(scheme.key_from_json(material)), *plain.shape[1:3])
    _require(
        (scheme.encrypt(plain, again) == scheme.encrypt(plain, key)).all(),
        "a key that is exported and imported encrypts as before", "another ciphertext", "exported keys are backups",
    )  # fmt: skip
    for name in (*material, "unknown"):
        try:
            scheme.key_from_json({**material, name: "nonsense"})
        except ParameterError as error:
            pointers = [pointer for pointer, _ in error.errors]
            _require(f"/{name}" in pointers, f"an error that points to /{name}", pointers, "the caller must find it")
        else:
            raise _failure(f"ParameterError for a nonsensical {name}", "it was accepted", "the key would be wrong")


def _check_structure(scheme: Scheme[Any, Any]) -> None:
    """Solve the declared structure with chosen images, and decrypt noise by the solution."""
    structure, (height, width) = (
        scheme.structure,
        pad(np.zeros((1, 16, 24, 3), np.uint8), scheme.size_multiple).shape[1:3],
    )
    if not moves_nibbles(structure):
        return
    key = scheme.key(SECRET, height, width)
    solve: Callable[..., Any] = chosen_plaintext.nibble_map
    if isinstance(structure, PixelMap):
        solve = chosen_plaintext.pixelwise
    elif is_fixed_block_map(structure, BLOCK):
        solve = chosen_plaintext.nibble_permutation
    expected, why = f"the scheme does what it declares: {structure}", "attacks rely on the declaration and would fail"
    try:
        found = solve(lambda images: scheme.encrypt_to_images(images, key), height, width).key
    except ValueError as error:
        raise _failure(expected, error, why) from None
    noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    wrong = float((found.decrypt(scheme.encrypt_to_images(noise, key)) != noise).mean())
    _require(
        wrong == 0, expected, f"the solved map decrypts {100 * wrong:.1f} % of the values of noise incorrectly", why
    )


_SCHEME_CHECKS = (
    _check_images, _check_keys, _check_key_per_image, _check_decryption, _check_explicit_keys, _check_structure
)  # fmt: skip


def _schemes_for(cls: type[Attack[Any]]) -> Iterator[tuple[str, Scheme[Any, Any]]]:
    """The first variant of every scheme without training to which the attack applies."""
    attack = cls(cls.Settings())
    for name, scheme_class in catalog.schemes().items():
        scheme = scheme_class(scheme_class.Settings())
        if not scheme_class.trains and attack.not_applicable_reason(scheme) is None:
            yield name, scheme


def _check_run(cls: type[Attack[Any]], scheme: Scheme[Any, Any]) -> None:
    settings = {**cls.profiles.get("smoke", {})}
    attack, whole = cls(cls.Settings(**settings)), sample().take(16, 3)
    # Copies: a faulty attack may write into them.
    data = dataclasses.replace(whole, train=whole.train[:, :48, :48].copy(), test=whole.test[:, :48, :48].copy())
    fractions: list[float] = []
    attack_input = _attack_input(attack, scheme, data)
    before = (attack_input.targets.copy(), attack_input.observed.copy())
    result = attack.run(attack_input, RunContext(seed=3, report=lambda fraction, _: fractions.append(fraction)))
    images, shape = result.reconstructed, attack_input.images.shape
    if images is not None or not result.metrics:
        _require(
            isinstance(images, np.ndarray) and (images.dtype, images.shape) == (np.dtype(np.uint8), shape),
            f"`reconstructed`: an image for each target, uint8 {list(shape)}",
            None if images is None else f"{images.dtype} {list(images.shape)}", "each is scored against its original",
        )  # fmt: skip
    _require(
        all((a == b).all() for a, b in zip((attack_input.targets, attack_input.observed), before, strict=True)),
        "the attack leaves its input unchanged", "it wrote into the ciphertexts", "other code uses them, too",
    )  # fmt: skip
    _require(all(0 <= f <= 1 for f in fractions), "progress in 0..1", fractions, "the service shows it and its ETA")
    again = attack.run(_attack_input(attack, scheme, data), RunContext(seed=3)).reconstructed
    _require(
        images is None or (images == again).all(), "the same seed gives the same images", "two runs differ",
        "an evaluation must be repeatable: draw from `context.seed`",
    )  # fmt: skip
    _check_cancellation(attack, scheme, data, has_reported=bool(fractions))
    flat = dataclasses.replace(
        data,
        train=np.full_like(data.train[:2], 128),
        train_labels=data.train_labels[:2],
        test=np.full_like(data.test[:1], 128),
    )
    try:
        attack.run(_attack_input(attack, scheme, flat), RunContext())
    except AttackFailed:
        pass
    except Exception as error:
        raise _failure(
            "constant images and few of them: a result, or AttackFailed that names what is missing",
            f"{type(error).__name__}: {error}", "users upload such images; the message is what they see",
        ) from error  # fmt: skip


def _check_cancellation(
    attack: Attack[Any], scheme: Scheme[Any, Any], data: ImageDataset, *, has_reported: bool
) -> None:
    def cancel(*_: Any) -> None:
        raise Cancelled

    try:
        attack.run(_attack_input(attack, scheme, data), RunContext(report=cancel))
    except Cancelled:
        return
    _require(
        not has_reported, "Cancelled, raised by `context.report`, passes through the attack", "it was swallowed",
        "a user who cancels waits at most 2 s",
    )  # fmt: skip


def _attack_input(attack: Attack[Any], scheme: Scheme[Any, Any], data: ImageDataset) -> AttackInput:
    test, train = (pad(images, scheme.size_multiple) for images in (data.test, data.train))
    split = split_images(attack, test, train, labels=data.train_labels)
    return build_attack_input(scheme, attack, split, protect_function(scheme, attack, SECRET))


def _check_scores(metric: Metric) -> None:
    originals = _photographs(6, 48, 48)
    noise = np.random.default_rng(0).integers(0, 256, originals.shape, np.uint8)
    before = originals.copy()
    same, other = metric.compute(originals, originals.copy()), metric.compute(originals, noise)
    for scores in (same, other):
        values = np.asarray(scores)
        _require(
            values.shape == (6,) and np.isfinite(values).all(), "6 finite numbers for 6 images",
            f"shape {list(values.shape)}: {values}", "every image has a score, and intervals are over images",
        )  # fmt: skip
    better = (np.asarray(same) > other) if metric.higher_is_better else (np.asarray(same) < other)
    _require(
        better.all(), f"an image scores better than noise against itself (higher_is_better={metric.higher_is_better})",
        f"itself {same}, noise {other}", "reports sort by it",
    )  # fmt: skip
    _require((originals == before).all(), "the images stay unchanged", "they were written to", "others use them, too")
    turned = metric.compute(originals[::-1].copy(), noise[::-1].copy())
    _require(
        np.allclose(turned[::-1], other), "a score depends on no other image", "it changed with the order",
        "images are scored in parts",
    )  # fmt: skip


def main(source: str) -> int:
    """Check every class of a file or module. Exit status 1: a check failed, 2: it cannot be loaded."""
    try:
        classes = registry.load_source(source)
    except (Exception, SystemExit) as error:
        print(f"{source} cannot be loaded: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    code = (  # in a fresh process: this one may have torch already
        "import sys; from unveil.models import catalog, registry; catalog.schemes();"
        "registry.import_source(sys.argv[1]); sys.exit('torch' in sys.modules)"
    )
    failed = subprocess.run([sys.executable, "-c", code, source], check=False).returncode == 1
    if failed:
        print(f"FAILED import: {_failure('an import without torch', 'it loads torch', 'the API process has none')}")
    for cls, _ in classes:
        try:
            passed = _run_all(cls)
        except CheckFailed as error:
            failed = True
            print(f"FAILED {cls.name}: {error}")
        else:
            print(f"passed {cls.name}: {len(passed)} checks")
    return int(failed)


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--unveil-plugin", action="append", default=[], metavar="FILE|MODULE", help="check an Unveil plug-in"
    )


def pytest_collection_modifyitems(session: Any, config: Any, items: list[Any]) -> None:
    import pytest

    class CheckItem(pytest.Item):
        check: Check

        def runtest(self) -> None:
            self.check()

        def reportinfo(self) -> tuple[Any, None, str]:
            return self.path, None, self.name

    for source in config.getoption("--unveil-plugin"):
        for cls, _ in registry.load_source(source):
            for name, check in checks_of(cls):
                item = CheckItem.from_parent(session, name=f"{cls.name}: {name}")
                item.check = check
                items.append(item)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
