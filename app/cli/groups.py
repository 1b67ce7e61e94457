"""Groups of commands whose help shows flags without a type: `--json`, not `--json <bool>`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


def _hide_types_of_flags(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_bool_flag", False):
            parameter.metavar = ""
    return parameters


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _hide_types_of_flags(super().get_params(ctx))


class _Group(TyperGroup):
    default_command: ClassVar[str | None] = None

    def get_params(self, ctx: Any) -> list[Any]:
        return _hide_types_of_flags(super().get_params(ctx))

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


class CommandGroup(typer.Typer):
    """default: the command that runs if the first word names none."""

    def __init__(self, *, default: str | None = None, **options: Any) -> None:
        class Group(_Group):
            default_command = default

        super().__init__(cls=Group, no_args_is_help=True, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=_Command, **options)
