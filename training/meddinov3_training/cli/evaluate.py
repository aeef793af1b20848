"""``meddinov3 evaluate``: how good predictions are, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from meddinov3.errors import MedDINOv3Error

from meddinov3_training.cli.progress import progress_bar

if TYPE_CHECKING:
    from meddinov3_training.evaluation.evaluate import Evaluation

FOLDER = click.Path(path_type=Path)
REPORT = "report.html"


class Tolerance(click.ParamType):  # type: ignore[type-arg]
    """Millimetres, for all labels or as LABEL=MM for one."""

    name = "mm"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Parse text; the label is "" for all."""
        if isinstance(value, tuple):
            return value
        label, _, figure = value.rpartition("=")
        try:
            millimetres = float(figure)
        except ValueError:
            millimetres = -1.0
        if not 0 <= millimetres < float("inf") or ("=" in value and not label):
            self.fail(f"'{value}' is no tolerance; write 1 or LABEL=2.", param, ctx)
        return label.strip(), millimetres


@click.command()
@click.option("--predictions", required=True, type=FOLDER, help="Folder with label maps.")
@click.option("--references", required=True, type=FOLDER, help="Folder with the true ones.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=FOLDER,
    help="New folder for report.html, scores.json and scores.csv.",
)
@click.option("--against", type=FOLDER, help="Predictions of another model, to compare with.")
@click.option("--images", type=FOLDER, help="Folder with the scans, for the worst cases' pictures.")
@click.option(
    "--dataset",
    type=FOLDER,
    help="A dataset.json, or its folder, that names the "
    "labels; by default it is looked for beside the label maps.",
)
@click.option("--model", help="Or the model (id or folder) that names them.")
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    type=Tolerance(),
    metavar="[LABEL=]MM",
    help="Of NSD; 1 mm by default. Repeat for single labels.",
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "empty"]),
    default="refuse",
    show_default=True,
    help="What to do about cases without a prediction.",
)
@click.option(
    "--worst",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="How many cases to show as pictures.",
)
@click.option("--name", help="Of the model in the report; by default the folder's.")
@click.option("--against-name", help="Of the other model.")
@click.option("--title", default="", help="Heading of the report.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--resamples", type=click.IntRange(min=100), default=10_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def evaluate(predictions: Path, references: Path, output: Path, against: Path | None,
             images: Path | None, **options: Any) -> None:  # fmt: skip
    """Score predicted label maps against references: Dice, NSD, HD95, volumes.

    Cases are matched by file name, in any image format. Nothing in the given folders is changed.
    """
    given = [path for path in (predictions, references, against, images) if path is not None]
    _check_output(output, given)
    from meddinov3_training.evaluation.matching import image_files, match_cases
    from meddinov3_training.evaluation.pictures import case_picture
    from meddinov3_training.evaluation.report import WorstCase, write_report
    from meddinov3_training.evaluation.results import SCORES, TABLE, write_scores, write_table

    quiet = options["quiet"]
    empty = options["missing"] == "empty"
    cases = match_cases(predictions, references, empty)
    others = None if against is None else match_cases(against, references, empty)
    scans = {} if images is None else image_files(images)
    first, second = _score(cases, others, predictions, references, against, options)

    worst, pairs = [], {pair.case: pair for pair in cases.pairs}
    for score in first.worst(options["worst"]):
        picture = case_picture(pairs[score.case], first.structures, scans.get(score.case))
        worst.append(WorstCase(score, picture))
    command = _command()
    models = [first] if second is None else [first, second]
    write_scores(output / SCORES, first, second, command)
    write_table(output / TABLE, *models)
    write_report(output / REPORT, first, second, worst, options["title"], command)
    if not quiet:
        _tell(models, output)


def _score(
    cases: Any, others: Any, predictions: Path, references: Path, against: Path | None,
    options: dict[str, Any],
) -> tuple[Evaluation, Evaluation | None]:  # fmt: skip
    """Scores of the model, and of the other one if there is one."""
    from meddinov3.model_store import find_model, read_description

    from meddinov3_training.evaluation.evaluate import (
        DEFAULT_TOLERANCE,
        Evaluation,
        resolve_tolerances,
        score_cases,
    )
    from meddinov3_training.evaluation.matching import find_structures

    model = None if options["model"] is None else read_description(find_model(options["model"]))
    structures, origin = find_structures(cases, predictions, references, options["dataset"], model)
    by_label = dict(options["tolerances"])
    tolerances = resolve_tolerances(structures, by_label.pop("", DEFAULT_TOLERANCE), by_label)
    found = []
    names = [options["name"] or predictions.resolve().name]
    folders = [(cases, names[0])]
    if against is not None:
        folders.append((others, options["against_name"] or against.resolve().name))
        if folders[1][1] == names[0]:
            folders[1] = others, f"{names[0]} (2)"
    for matched, name in folders:
        with progress_bar(options["quiet"]) as show:
            scores, notes = score_cases(
                matched.pairs, structures, tolerances, options["jobs"], show, f"score {name}"
            )
        told = (*matched.notes, *notes)
        evaluation = Evaluation(name, structures, tolerances, scores, told, options["seed"],
                                options["resamples"], origin)  # fmt: skip
        found.append(evaluation)
    return found[0], found[1] if len(found) > 1 else None


def _check_output(output: Path, given: list[Path]) -> None:
    """Refuse to write among what was given, or over anything but an earlier evaluation."""
    from meddinov3_training.evaluation.results import SCORES, is_scores

    inside = [path for path in given if output.resolve().is_relative_to(path.resolve())]
    if inside:
        raise MedDINOv3Error(
            "output-in-input",
            f"The report would be written into '{inside[0].resolve().name}', which stays as it is.",
            "Choose an --output outside the given folders.",
        )
    if output.is_file() or (
        output.is_dir() and any(output.iterdir()) and not is_scores(output / SCORES)
    ):
        raise MedDINOv3Error(
            "output-exists",
            f"'{output.name}' is a file or a folder with something else in it.",
            "Choose a new --output.",
        )


def _command() -> str:
    """The call as it can be repeated, without places of folders."""
    context = click.get_current_context()
    parts = ["meddinov3 evaluate"]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in ("quiet", "output"):
            continue
        values = context.params[name]
        for value in values if isinstance(values, (list, tuple)) else [values]:
            parts.append(f"{parameter.opts[-1]} {_argument(value)}")
    return " ".join(parts)


def _argument(value: Any) -> str:
    if isinstance(value, Path):
        value = value.resolve().name
    elif isinstance(value, tuple):
        value = "=".join(str(part) for part in value if part != "")
    text = str(value)
    return f'"{text}"' if " " in text else text


def _tell(models: list[Evaluation], output: Path) -> None:
    from meddinov3_training.evaluation.evaluate import METRICS
    from meddinov3_training.evaluation.report import figure, interval

    for evaluation in models:
        click.echo(f"{evaluation.name}: {len(evaluation.cases)} cases")
        means = {metric: evaluation.means(metric) for metric in METRICS[:3]}
        rows = [
            *((name, {m: labels[n] for m, (labels, _) in means.items()})
              for n, name in enumerate(evaluation.label_names)),
            ("mean of the labels", {m: overall for m, (_, overall) in means.items()}),
        ]  # fmt: skip
        for name, estimates in rows:
            told = ", ".join(
                f"{m.title} {figure(m, e.mean, unit=True)} ({interval(m, e)})"
                for m, e in estimates.items()
            )
            click.echo(f"  {name:<24}{told}")
        for note in filter(None, (evaluation.caution, *evaluation.notes)):
            click.echo(f"  Note: {note}")
    click.echo(f"  Labels are named by {models[0].names_from}.")
    click.echo(f"wrote {output / REPORT}")
