"""The registry of schemes, attacks and metrics: built-ins and plug-ins pass through the same function.

Built-ins are found by scanning their packages. Plug-ins come from entry points and from UNVEIL_PLUGINS; a plug-in that
fails is recorded and never prevents a start. Imports no torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from unveil.models import attacks as attack_modules
from unveil.models import schemes as scheme_modules
from unveil.models.attacks.base import Attack
from unveil.models.core.settings_schema import json_schema
from unveil.models.core.version import __version__
from unveil.models.metrics.base import Metric
from unveil.models.schemes.base import Scheme

Kind = Literal["scheme", "attack", "metric"]

API_VERSION = 1  # of the base classes; a plug-in states in `api_version` which one it was written for
PLUGINS_VARIABLE = "UNVEIL_PLUGINS"  # paths of files or names of modules, separated by commas

_BASES: dict[Kind, type[Any]] = {"scheme": Scheme, "attack": Attack, "metric": Metric}
_PACKAGES: dict[Kind, ModuleType] = {"scheme": scheme_modules, "attack": attack_modules}
_PLUGIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,30}/[a-z0-9][a-z0-9._-]{0,30}")
_RESERVED_VENDOR = "unveil"
_TORCH = {"torch", "torchvision"}


@dataclass(frozen=True)
class Origin:
    """Where a class comes from. source_sha256: of its file, or of all Python files of its package."""

    distribution: str
    version: str | None
    source_sha256: str


@dataclass(frozen=True)
class Plugin:
    """The outcome of loading one plug-in. name: of the class, or of the source if it was not loaded."""

    name: str
    kind: Kind | None
    distribution: str | None
    version: str | None
    source_sha256: str | None
    status: Literal["loaded", "failed"]
    error: str | None = None


class Rejected(TypeError):
    """A class cannot be registered; the message says why and what to do."""


@dataclass(frozen=True)
class _Registration:
    cls: type[Any]
    origin: Origin


_registry: dict[Kind, dict[str, _Registration]] = {"scheme": {}, "attack": {}, "metric": {}}
_plugins: list[Plugin] = []
_lock = threading.RLock()
_loaded = False


def registered(kind: Kind) -> Mapping[str, Any]:
    """Every registered class of a kind by name, in alphabetical order, built-ins first."""
    load()
    known = _registry[kind]
    return {name: known[name].cls for name in sorted(known, key=lambda name: ("/" in name, name))}


def origin_of(kind: Kind, name: str) -> Origin | None:
    """Where a registered class comes from; None for a name that is not registered."""
    load()
    registration = _registry[kind].get(name)
    return None if registration is None else registration.origin


def plugins() -> list[Plugin]:
    """Every plug-in found, loaded or failed."""
    load()
    return list(_plugins)


def add_plugins(sources: Sequence[str]) -> None:
    """Add files and modules to UNVEIL_PLUGINS, for this process and those that it starts, before anything is loaded."""
    known = [source for source in os.environ.get(PLUGINS_VARIABLE, "").split(",") if source]
    given = [str(Path(source).absolute()) if Path(source).is_file() else source for source in sources]
    os.environ[PLUGINS_VARIABLE] = ",".join(dict.fromkeys(known + given))


def load(*, torch_free: bool = False) -> None:
    """Register built-ins and plug-ins, once in a process.

    torch_free: refuse plug-ins whose import brings torch indirectly, for the API process.
    """
    global _loaded  # noqa: PLW0603
    with _lock:
        if _loaded:
            return
        _loaded = True  # before the work: plug-ins may ask the catalog
        for kind, package in _PACKAGES.items():
            for module in pkgutil.iter_modules(package.__path__):
                for cls in find_classes(importlib.import_module(f"{package.__name__}.{module.name}")):
                    if kind_of(cls) == kind:
                        register(kind, cls, _builtin_origin(cls))
        _load_plugins(torch_free=torch_free)


def register(kind: Kind, cls: Any, origin: Origin) -> None:
    """Add a concrete class under its name. Raises Rejected for a class that the product cannot use."""
    if not issubclass(cls, _BASES[kind]) or inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise Rejected(
            f"{cls.__qualname__} must be a concrete subclass of {_BASES[kind].__name__}"
            + (f"; it does not define {missing}" if missing else "")
        )
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        raise Rejected(f'{cls.__qualname__} needs a `name`, such as "acme/my-{kind}"')
    if cls.api_version > API_VERSION:
        raise Rejected(
            f"{name} needs version {cls.api_version} of the plug-in API; this Unveil has {API_VERSION}: upgrade unveil"
        )
    known = _registry[kind].get(name)
    if known is not None:
        if known.cls is cls:
            return
        raise Rejected(f"{kind} {name!r} is already registered by {known.origin.distribution}; choose another name")
    _registry[kind][name] = _Registration(cls, origin)


def find_classes(module: ModuleType) -> list[type[Any]]:
    """The concrete schemes, attacks and metrics that a module defines."""
    return [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and cls.__module__ == module.__name__
        and issubclass(cls, tuple(_BASES.values()))
        and not inspect.isabstract(cls)
    ]


def kind_of(cls: type[Any]) -> Kind:
    return next(kind for kind, base in _BASES.items() if issubclass(cls, base))


def import_source(source: str) -> ModuleType:
    """Import a plug-in: the path of a file or the name of a module. Raises Rejected, and what its code raises."""
    path = Path(source)
    if path.suffix != ".py" and os.sep not in source:
        spec = importlib.util.find_spec(source)
        if spec is None:
            raise Rejected(f"there is no module {source!r}; give a module name or the path of a .py file")
        _refuse_torch_at_module_level(spec.origin)
        return importlib.import_module(source)
    if not path.is_file():
        raise Rejected(f"there is no file {source}")
    _refuse_torch_at_module_level(str(path))
    name = f"unveil_plugin_{path.stem}_{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def check_plugin_name(name: str) -> None:
    """Raises Rejected unless a name has the form `vendor/name` and a vendor of its own."""
    if not _PLUGIN_NAME.fullmatch(name) or name.startswith(f"{_RESERVED_VENDOR}/"):
        raise Rejected(
            f"the name {name!r} must have the form vendor/name of lower-case letters, digits, '.', '_' and '-', "
            f"such as acme/my-cipher; the vendor {_RESERVED_VENDOR!r} is reserved"
        )


def _load_plugins(*, torch_free: bool) -> None:
    """Import every source, then register schemes before attacks, so that attacks are tried on all schemes."""
    found: list[tuple[type[Any], Origin]] = []
    for source, load_classes in _sources():
        had_torch = "torch" in sys.modules
        try:
            classes = load_classes()
            if torch_free and not had_torch and "torch" in sys.modules:
                raise Rejected("its import loads torch; import torch inside functions, also in the modules it imports")
            found += classes
        except (Exception, SystemExit) as error:
            _plugins.append(Plugin(source, None, None, None, None, "failed", _describe(error)))
    order = list(_BASES)
    for cls, origin in sorted(found, key=lambda entry: order.index(kind_of(entry[0]))):
        _plugins.append(_register_plugin(kind_of(cls), cls, origin))


def _register_plugin(kind: Kind, cls: type[Any], origin: Origin) -> Plugin:
    name = str(getattr(cls, "name", cls.__qualname__))
    try:
        check_plugin_name(name)
        register(kind, cls, origin)
    except Rejected as error:
        return Plugin(name, kind, **vars(origin), status="failed", error=_describe(error))
    try:
        _try_out(kind, cls)
    except (Exception, SystemExit) as error:
        del _registry[kind][name]
        return Plugin(name, kind, **vars(origin), status="failed", error=_describe(error))
    return Plugin(name, kind, **vars(origin), status="loaded")


def _sources() -> Iterator[tuple[str, Callable[[], list[tuple[type[Any], Origin]]]]]:
    """What each plug-in is called in an error, and a function that imports its classes."""
    for kind in _BASES:
        for entry in entry_points(group=f"unveil.{kind}s"):
            yield f"{entry.group}: {entry.name}", partial(_load_entry_point, entry)
    for source in dict.fromkeys(part.strip() for part in os.environ.get(PLUGINS_VARIABLE, "").split(",")):
        if source:
            yield source, partial(load_source, source)


def _load_entry_point(entry: EntryPoint) -> list[tuple[type[Any], Origin]]:
    spec = importlib.util.find_spec(entry.module)
    _refuse_torch_at_module_level(None if spec is None else spec.origin)
    cls = entry.load()
    if not inspect.isclass(cls) or not issubclass(cls, tuple(_BASES.values())):
        raise Rejected(f"its value {entry.value} must be a subclass of Scheme, Attack or Metric")
    assert entry.dist is not None
    return [(cls, Origin(entry.dist.name, entry.dist.version, _source_sha256(cls)))]


def load_source(source: str) -> list[tuple[type[Any], Origin]]:
    """The plug-in classes of a file or a module, not yet registered. Raises Rejected, and what its code raises."""
    module = import_source(source)
    classes = find_classes(module)
    if not classes:
        raise Rejected(f"{source} defines no concrete subclass of Scheme, Attack or Metric")
    distribution, number = Path(source).name, getattr(module, "__version__", None)
    installed = packages_distributions().get(module.__name__.partition(".")[0])
    if installed:
        distribution, number = installed[0], version(installed[0])
    return [(cls, Origin(distribution, number, _source_sha256(cls))) for cls in classes]


def _try_out(kind: Kind, cls: type[Any]) -> None:
    """Call what the catalog calls, so that a fault shows here and not in every listing."""
    if kind == "metric":
        return
    component = cls(cls.Settings())
    json_schema(cls.Settings)
    if kind == "scheme":
        for fact in ("key_per_image", "structure", "has_explicit_keys", "paper"):
            getattr(component, fact)
        component.key_space_bits(component.size_multiple, component.size_multiple)
    else:
        component.threat_model.name, component.trains_network(), component.required_ciphertexts()
        for registration in _registry["scheme"].values():
            component.not_applicable_reason(registration.cls(registration.cls.Settings()))


def _refuse_torch_at_module_level(path: str | None) -> None:
    """Raises Rejected if the module imports torch when it is imported. The API process has no torch."""
    if path is None or not path.endswith(".py"):
        return
    for line, name in _module_level_imports(ast.parse(Path(path).read_text(encoding="utf-8"), path)):
        if name in _TORCH:
            raise Rejected(
                f"line {line} imports {name} at module level; the API process reads plug-ins without it: import {name} "
                "inside the functions that use it"
            )


def _module_level_imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top-level package of each import outside functions and `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name.partition(".")[0]) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield child.lineno, (child.module or "").partition(".")[0]
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _module_level_imports(child)


def _builtin_origin(cls: type[Any]) -> Origin:
    return Origin("unveil", __version__, _file_sha256([Path(inspect.getfile(cls))]))


def _source_sha256(cls: type[Any]) -> str:
    top_level = sys.modules.get(cls.__module__.partition(".")[0])
    folders = [Path(folder) for folder in getattr(top_level, "__path__", ())]
    return _file_sha256([file for folder in folders for file in folder.rglob("*.py")] or [Path(inspect.getfile(cls))])


def _file_sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, Rejected) else f"{type(error).__name__}: {error}"
