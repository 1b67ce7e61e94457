"""`unveil report`: write, and check the signature of reports."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from unveil.app.cli.common import (
    CommandFailed,
    Json,
    State,
    Token,
    Url,
    UsageError,
    connect,
    print_items,
    print_json,
    stderr,
)
from unveil.app.cli.evaluations import EvaluationId, get_evaluation
from unveil.app.cli.groups import CommandGroup
from unveil.app.client.options import ReportFormat

report = CommandGroup(
    default="write", help="Write the report of an evaluation, `unveil report EV -o FILE`, and check signatures."
)


def register(app: typer.Typer) -> None:
    app.add_typer(report, name="report")


@report.command("write")
def write_report(
    id: EvaluationId,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write; - writes to stdout")] = Path(
        "report.html"
    ),
    format: Annotated[
        ReportFormat | None, typer.Option(help="Default: the suffix of the file; html for stdout")
    ] = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images/--no-images",
            help="Include images; --no-images writes figures and tables only, for a copy to share",
        ),
    ] = True,
    url: Url = None,
    token: Token = None,
    state: State = None,
) -> None:
    """Write the report of an evaluation. A report of a running evaluation holds the cells that have ended."""
    chosen_format: Any = format or ("html" if str(output) == "-" else output.suffix.removeprefix("."))
    if chosen_format not in get_args(ReportFormat):
        raise UsageError(f"{output}: unknown format; give --format, one of {', '.join(get_args(ReportFormat))}")
    with connect(url, token, state) as client:
        content = get_evaluation(client, id).report(chosen_format, images=images)
    if str(output) == "-":
        sys.stdout.buffer.write(content)
    else:
        output.write_bytes(content)
        stderr().print(f"wrote {output} ({len(content):,} bytes)")


@report.command()
def verify(
    file: Annotated[
        Path, typer.Argument(help="Report as it was downloaded: html, md, json, pdf or zip", metavar="FILE")
    ],
    key: Annotated[
        str | None,
        typer.Option(help="Key that must have signed it: as `unveil report keys` prints it, or a jwks.json"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check offline that a report is unchanged, and who signed it. Exits with 1 if it is not valid.

    The signature proves who measured. It does not prove that a scheme is safe.
    """
    from unveil.app.security.signing import SignatureError, verify_file

    trusted = None if key is None else _read_keys(key)
    try:
        signature = verify_file(file)
    except SignatureError as error:
        raise CommandFailed(f"{file}: {error}") from None
    if trusted is not None and signature.kid not in trusted:
        raise CommandFailed(f"{file}: another key signed it: {signature.kid}")
    facts = {**vars(signature.claims), "key": signature.kid, "key_checked": trusted is not None}
    if as_json:
        print_json(facts)
    else:
        print(f"{file}: unchanged since {facts['auditor']!r} signed it at {facts['signed_at']}")
        for name in ("evaluation", "report_sha256", "unveil", "key"):
            print(f"  {name}: {facts[name]}")
    if trusted is None:
        stderr().print("warning: the key was read from the file, and anybody can have one; compare it, or give --key")


@report.command("keys")
def list_keys(url: Url = None, token: Token = None, state: State = None, as_json: Json = False) -> None:
    """List the keys that the service signs reports with, the current one first."""
    with connect(url, token, state) as client:
        keys = client.signing_keys()
    print_items(as_json, {"keys": keys}, ["key"], [[key["kid"]] for key in keys], ["key"])


def _read_keys(key: str) -> set[str]:
    """The thumbprints in a JSON Web Key Set, or the one given. Raises UsageError, OSError."""
    if re.fullmatch(r"[\w-]{43}", key):
        return {key}
    path = Path(key)
    from unveil.app.security.signing import thumbprint_of_jwk

    try:
        return {thumbprint_of_jwk(jwk) for jwk in json.loads(path.read_text(encoding="utf-8"))["keys"]}
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is not a JSON Web Key Set, as /.well-known/jwks.json serves it") from None
