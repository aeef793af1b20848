"""``meddinov3 doctor``: what this machine can do."""

from __future__ import annotations

import click

from meddinov3_training.cli.torch_loading import REINSTALL, reason


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--quick", is_flag=True, help="Do not time the models.")
def doctor(device: str, quick: bool) -> None:
    """Look at this machine and say what it can run, and how fast.

    The exit code is 1 if something needs mending.
    """
    try:
        from meddinov3.doctor import examine
    except Exception as error:  # a torch that does not load raises anything
        click.secho("!!  ", fg="red", nl=False)
        click.echo(f"torch: cannot be loaded: {reason(error)}")
        click.echo(f"    What to do: {REINSTALL}")
        raise SystemExit(1) from None

    problems = 0
    for finding in examine(device, time_models=not quick):
        good = not finding.remedy
        click.secho("ok  " if good else "!!  ", fg="green" if good else "red", nl=False)
        click.echo(f"{finding.topic}: {finding.text}")
        if not good:
            problems += 1
            click.echo(f"    What to do: {finding.remedy}")
    raise SystemExit(1 if problems else 0)
