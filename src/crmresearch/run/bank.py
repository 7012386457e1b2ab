"""The command line of banks: ``crmresearch bank list | describe | check | simulate | get``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crmresearch.errors import InputError
from crmresearch.run import options

banks = typer.Typer(help="Banks: list, describe, check, simulate, get.", no_args_is_help=True, rich_markup_mode=None)


@banks.command("list")
def list_banks() -> None:
    """List every bank that can be named."""
    from crmresearch.data.sources import names

    rows = names.listing()
    columns = ("name", "evidence", "status")
    width = {key: max(len(key), *(len(row[key]) for row in rows)) for key in columns}
    for row in rows:
        options.echo("  ".join([*(row[key].ljust(width[key]) for key in columns), row["title"]]).rstrip())


@banks.command()
def describe(
    names: Annotated[list[str], typer.Argument(help="Name or path of a bank; with --suggest, files.")],
    suggest: Annotated[bool, typer.Option("--suggest", help="Write a first bank.yaml for the files.")] = False,
    out: Annotated[
        Path | None, typer.Option(callback=options.here, help="File for the suggestion; else shown.")
    ] = None,
    from_dir: options.From = None,
) -> None:
    """Say what a bank holds: tables, rows, period, columns it does not bring; or suggest a bank.yaml for files."""
    from crmresearch.data.bank import open_bank

    if suggest:
        from crmresearch.run import suggest as suggesting

        text = suggesting.suggest([Path(name) for name in names], Path() if out is None else out.parent)
        if out is None:
            options.echo(text.rstrip())
            return
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise InputError(f"{out.name} is there already; name another file") from None
        options.echo(f"written: {options.short(out.absolute())}")
        return
    if len(names) != 1 or out is not None:
        raise InputError("bank describe takes one bank; with --suggest, files, and --out")
    [name] = names
    options.echo(repr(open_bank(name, from_dir).describe()))


@banks.command("check")
def check_bank(
    path: Annotated[str, typer.Argument(help="Path of a bank.yaml or of its folder.")], from_dir: options.From = None
) -> None:
    """Load a bank and say what was understood; exit with 1 if something deserves a look, with 2 if it does not load."""
    from crmresearch.data.bank import open_bank
    from crmresearch.run import understood

    lines, doubts = understood.report(open_bank(path, from_dir), path, from_dir)
    for line in lines:
        options.echo(line)
    if doubts:
        raise typer.Exit(1)


@banks.command()
def simulate(
    out: Annotated[Path, typer.Option(callback=options.here, help="Folder for the new bank.")],
    customers: Annotated[int, typer.Option(min=1)] = 20_000,
    months: Annotated[int, typer.Option(min=1)] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    world: Annotated[str, typer.Option(help="Which truth is planted.")] = "baseline",
) -> None:
    """Write a simulated bank and its truth."""
    from crmresearch.lab import simulated

    simulated.write(simulated.Settings(customers=customers, months=months, seed=seed, world=world), out)
    options.echo(f"{customers:,} customers over {months} months, world {world}: {options.short(out.absolute())}")


@banks.command()
def get(name: Annotated[str, typer.Argument(help="Name in the catalogue.")], from_dir: options.From = None) -> None:
    """Bring an open data set into the cache, from its address or from a folder."""
    from crmresearch.data.sources import open_data

    open_data.get(name, from_dir)
    options.echo(f"{name}: files are here and match the catalogue")
