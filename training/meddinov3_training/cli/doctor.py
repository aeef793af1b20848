"""``meddinov3 doctor``: what this machine can do."""

from __future__ import annotations

import click


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--quick", is_flag=True, help="Do not time the models.")
def doctor(device: str, quick: bool) -> None:
    """Look at this machine and say what it can run, and how fast.

    The exit code is 1 if something needs mending.
    """
    from meddinov3.doctor import examine

    problems = 0
    for finding in examine(device, time_models=not quick):
        good = not finding.remedy
        click.secho("ok  " if good else "!!  ", fg="green" if good else "red", nl=False)
        click.echo(f"{finding.topic}: {finding.text}")
        if not good:
            problems += 1
            click.echo(f"    What to do: {finding.remedy}")
    raise SystemExit(1 if problems else 0)
