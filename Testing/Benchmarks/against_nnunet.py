"""This project and stock nnU-Net 2D: same cases, same wall-clock budget, same device, same metric.

    python Testing/Benchmarks/against_nnunet.py prepare
    python Testing/Benchmarks/against_nnunet.py train ours nnunet --dataset hippocampus \\
        --cases 5 --cases 10 --cases all --budget 30m --device cpu
    python Testing/Benchmarks/against_nnunet.py table

The data are those of ../shared/data (45 training and 15 test cases of hippocampus MR, 30 and 10
of head-and-neck CT); nothing is written there. `prepare` installs nnU-Net from the package index
into an environment of its own. `train` trains, segments the test cases and scores them; a cell
of the table that is finished is not repeated, nor a training that is, so the command can be
given again after an interruption.

Only the time of training counts against the budget, on both sides; preparation of the data is
told apart. Both train on all given cases and are scored with their last weights and with
mirrored copies averaged (ours where the model was trained on them). nnU-Net's trainer is its
own, except that epochs are as many, and on a CPU as short, as the budget asks for.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import time
from pathlib import Path

import click
from meddinov3_training.cli.finetune import Duration
from nnunet import ours, stock
from nnunet.cells import DATA, Bench, Cell, case_id, write_json
from nnunet.scores import device_name, load_average, score, table

ROOT = Path(__file__).resolve().parents[2]


@click.group(context_settings={"max_content_width": 100})
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "runs", show_default=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    default=ROOT.parent / "shared" / "data",
    show_default=True,
)
@click.pass_context
def main(context: click.Context, work: Path, data: Path) -> None:
    """Compare with nnU-Net 2D at equal budget."""
    context.obj = Bench(work, data)


@main.command()
@click.pass_obj
def prepare(bench: Bench) -> None:
    """Install nnU-Net into WORK/nnunet-env (about 6 GB with torch for CUDA)."""
    bench.work.mkdir(parents=True, exist_ok=True)
    stock.prepare(bench.work / "nnunet-env")


@main.command()
@click.argument("sides", nargs=-1, required=True, type=click.Choice(["ours", "nnunet"]))
@click.option("--dataset", "names", multiple=True, required=True, type=click.Choice(list(DATA)))
@click.option("--cases", "counts", multiple=True, default=("all",), help="A number, or all.")
@click.option("--budget", type=Duration(), required=True, help="Of training, e.g. 30m.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), required=True)
@click.option("--options", default="", help="Further ones for `meddinov3 finetune`.")
@click.option("--variant", default="", help="Name of a row with such options.")
@click.option(
    "--nnunet-python",
    type=click.Path(path_type=Path),
    help="An interpreter that has nnU-Net, instead of the one that `prepare` made; "
    "NNUNET_PYTHONPATH names a folder of packages that it should look into.",
)
@click.pass_obj
def train(
    bench: Bench,
    sides: tuple[str, ...],
    names: tuple[str, ...],
    counts: tuple[str, ...],
    budget: float,
    device: str,
    options: str,
    variant: str,
    nnunet_python: Path | None,
) -> None:
    """Train, segment and score every combination that is not in results.json yet."""
    if options and not variant:
        raise click.UsageError("Rows with other --options need a --variant name.")
    python = nnunet_python or stock.default_python(bench.work)
    for name in names:
        available = len(bench.listed(name, "training"))
        for count in counts:
            cases = available if count == "all" else int(count)
            if not 0 < cases <= available:
                raise click.UsageError(f"{name} has {available} training cases.")
            for side in sides:
                cell = Cell(name, cases, budget, device, side, variant if side == "ours" else "")
                _train(bench, cell, shlex.split(options), python)


def _train(bench: Bench, cell: Cell, options: list[str], python: Path) -> None:
    if cell.key in bench.results():
        click.echo(f"{cell.key}: done already")
        return
    folder = bench.cell_folder(cell)
    trained = folder / "trained.json"
    their = stock.Stock(bench, cell, python) if cell.side == "nnunet" else None
    if not trained.exists():
        click.echo(f"{cell.key}: since {time.strftime('%H:%M')}")
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted training
        load = load_average()
        measured = their.train() if their else ours.train(bench, cell, options)
        measured["load_before"] = load
        write_json(trained, measured)
    begin = time.monotonic()
    if their:
        their.predict()
    else:
        ours.predict(bench, cell)
    facts = dataclasses.asdict(cell)
    facts["training_cases"] = facts.pop("cases")
    facts["device_name"] = device_name(cell.device)
    facts["predict_seconds"] = round(time.monotonic() - begin, 1)
    facts["training"] = [case_id(entry) for entry in bench.training(cell)]
    facts["test"] = [name for name, _, _ in bench.test(cell.data)]
    measured = json.loads(trained.read_text(encoding="utf-8"))
    result = {**facts, **measured, **score(bench, cell)}
    bench.keep(cell.key, result)
    click.echo(f"{cell.key}: mean Dice {result['mean_dice']} after {result['train_seconds']} s")


@main.command("score")
@click.pass_obj
def rescore(bench: Bench) -> None:
    """Score all predictions again, with the metric code of today."""
    for key, result in bench.results().items():
        cell = Cell(
            result["data"], result["training_cases"], result["seconds"], result["device"],
            result["side"], result["variant"],
        )  # fmt: skip
        bench.keep(key, {**result, **score(bench, cell)})
        click.echo(f"{key}: {bench.results()[key]['mean_dice']}")


@main.command("table")
@click.pass_obj
def show(bench: Bench) -> None:
    """The results in Markdown."""
    click.echo(table(bench.results()))


if __name__ == "__main__":
    main()
