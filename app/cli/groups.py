"""Groups of commands that start fast: a command's module is imported when the command is called.

Their help is plain text and shows flags without a type: `--json`, not `--json <bool>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup


class CommandGroup(typer.Typer):
    """default: the command that runs if the first word names none.
    modules: the module of each command, which has `register(group)`; imported on first use.
    """

    def __init__(self, *, default: str | None = None, modules: Mapping[str, str] | None = None, **options: Any) -> None:
        class Group(_Group):
            default_command = default
            modules_by_command = modules or {}

        super().__init__(cls=Group, no_args_is_help=True, rich_markup_mode=None, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=_Command, **options)


class _Command(TyperCommand):
    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        return _first_sentence(self.help)

    def get_params(self, ctx: Any) -> list[Any]:
        return _adapt(super().get_params(ctx))


class _Group(TyperGroup):
    default_command: ClassVar[str | None] = None
    modules_by_command: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.modules_by_command:
            self.commands: Any = _LazyCommands(self.modules_by_command)

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        return _first_sentence(self.help)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def get_params(self, ctx: Any) -> list[Any]:
        return _adapt(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self.default_command and args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        found = super().shell_complete(ctx, incomplete)
        if self.default_command:
            command = self.commands[self.default_command]
            first, *_ = (each for each in command.params if each.param_type_name == "argument")
            found += first.shell_complete(ctx, incomplete)
        return found


class _LazyCommands(Mapping[str, Any]):
    """The commands by name."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            group = CommandGroup()
            import_module(self._modules[name]).register(group)
            self._loaded |= typer.main.get_group(group).commands
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


def _first_sentence(help: str | None) -> str:
    """Whole: lists of commands wrap it, where typer cuts it off."""
    return re.split(r"(?<=[.!?])\s", " ".join((help or "").split()))[0]


def _adapt(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_bool_flag", False):
            parameter.metavar = ""
        parameter._runtime_param = _Conversion()
    return parameters


class _Conversion:
    """Passes defaults, text and paths. Typer would import pydantic for them, which takes longer than all the rest."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        kind, has_one_value = param.type_descriptor.annotation, param.nargs == 1 and not param.multiple
        if has_one_value and (value is None or (isinstance(kind, type) and isinstance(value, kind))):
            return value
        if has_one_value and kind is Path and not param.type_descriptor.parameter_info.exists:
            return Path(value)
        param._runtime_param = None  # typer builds its own
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)
