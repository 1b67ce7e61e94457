"""Nothing that runs code is read from a file or a message: torch loads weights only, numpy no objects, Celery JSON."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from unveil.app.broker import make_celery_app
from unveil.app.settings import Settings

ROOT = Path(__file__).parents[1]
SOURCES = sorted(file for room in ("app", "worker", "models", "migrations") for file in (ROOT / room).rglob("*.py"))
UNSAFE_FUNCTIONS = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "yaml.load", "joblib.load",
    "dill.loads", "cloudpickle.loads", "eval", "exec", "builtins.eval", "builtins.exec",
}  # fmt: skip
REQUIRED_ARGUMENTS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


def find_unsafe_loads(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in UNSAFE_FUNCTIONS:
            yield name
        if name in REQUIRED_ARGUMENTS:
            argument, wanted = REQUIRED_ARGUMENTS[name]
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            # numpy's own default is to refuse objects; torch's has changed
            if given.get(argument, str(wanted) if name != "torch.load" else "") != str(wanted):
                yield f"{name} without {argument}={wanted}"


@pytest.mark.parametrize(
    "source",
    ["pickle.loads(data)", "torch.load(path)", "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)"],
)
def test_the_search_finds_them(source: str) -> None:
    assert list(find_unsafe_loads(source))


def test_no_source_reads_what_could_run_code() -> None:
    assert len(SOURCES) > 100
    found = {f"{file.relative_to(ROOT)}: {what}" for file in SOURCES for what in find_unsafe_loads(file.read_text())}
    assert found == set()


def test_messages_are_json_and_nothing_else_is_taken() -> None:
    conf = make_celery_app(Settings()).conf
    assert (conf.task_serializer, list(conf.accept_content), conf.task_ignore_result) == ("json", ["json"], True)
