"""`unveil audit`: audit a function of a Python file, or a built-in scheme, without a service."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from unveil.app.cli import gate
from unveil.app.cli.common import CommandFailed, Json, UsageError, stderr
from unveil.app.cli.gate import FailOn, Junit, Summary
from unveil.app.client.options import Profile


def register(app: typer.Typer) -> None:
    app.command()(audit)


def audit(
    scheme: Annotated[
        str, typer.Argument(metavar="FILE:FUNCTION", help="my_scheme.py:protect, or a built-in scheme: tanaka:icce2018")
    ],
    images: Annotated[Path, typer.Option(help="Plain images: a folder, a .npy file or a .npz file", exists=True)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Report file to write: .html, .json, .csv, .md, .pdf or .zip")
    ] = None,
    public: Annotated[
        Path | None,
        typer.Option(help="Images that the attacker owns: a folder, a .npy file or a .npz file", exists=True),
    ] = None,
    attacks: Annotated[str, typer.Option(help="default, all, or a comma-separated list: none,fr:L=4")] = "default",
    profile: Annotated[
        Profile, typer.Option(help="smoke: seconds; quick: minutes; paper: the settings of the paper")
    ] = "quick",
    name: Annotated[str | None, typer.Option(help="Name of the scheme in the report")] = None,
    seed: int = 0,
    key_per_image: Annotated[
        bool,
        typer.Option(
            "--key-per-image", help="The function draws a key for each image, so call it for one image at a time"
        ),
    ] = False,
    oracle: Annotated[
        bool, typer.Option("--oracle/--no-oracle", help="Whether chosen-plaintext attacks may call the function")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results of finished attacks; a second run with the same folder resumes"),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with code 4 on this verdict or a worse one: broken, leaks, inconclusive")
    ] = "inconclusive",
    junit: Junit = None,
    summary: Summary = None,
    as_json: Json = False,
) -> None:
    """Run every attack that applies to a scheme in this process, and print the verdict.

    FUNCTION takes and returns uint8 images [N, height, width, 3]. Exit code 4: the verdict meets --fail-on.
    """
    from unveil.app.report.formats import Format  # loads SciPy

    if output is not None and output.suffix.removeprefix(".") not in [format.value for format in Format]:
        raise UsageError(f"{output}: unknown format; end the name in .html, .json, .csv, .md, .pdf or .zip")
    subject = _load_function(scheme) if ".py:" in scheme else scheme
    unveil: Any = importlib.import_module("unveil")  # composes app and models; neither may import it
    try:
        report = unveil.audit(
            subject,
            images,
            public=public,
            attacks=attacks if attacks in ("default", "all") else attacks.split(","),
            name=name,
            profile=profile,
            seed=seed,
            key_per_image=key_per_image,
            oracle=oracle,
            device=device,
            out=out,
        )
    except unveil.InvalidScheme as error:
        raise CommandFailed(str(error)) from error
    except KeyboardInterrupt:
        if out is None:
            stderr().print("nothing was kept; with --out DIR, an interrupted audit can be continued")
        else:
            stderr().print(f"{out} keeps the finished attacks; run the command again to go on")
        raise
    except (ValueError, LookupError) as error:
        raise UsageError(str(error.args[0] if isinstance(error, LookupError) else error)) from error
    if output is not None:
        report.save(output)
        stderr().print(f"wrote {output}")
    print(report.render("json").decode() if as_json else report)
    gate.write_files(report.table, fail_on, junit, summary)
    gate.exit_if_met(fail_on, [report.verdict])


def _load_function(spec: str) -> Callable[..., Any]:
    """The function that FILE:FUNCTION names. Raises UsageError."""
    file, _, function_name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"{file}: no such file; give FILE:FUNCTION, such as my_scheme.py:protect")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(path.parent))  # for modules beside it
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{file} could not be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UsageError(f"{file} has no function {function_name!r}; it has {', '.join(names) or 'none'}")
    return function  # type: ignore[no-any-return]
