"""What a person reads about a model before using it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from meddinov3.description import ModelDescription
    from meddinov3.model_store import InstalledModel

SHOWN_LABELS = 8


def modelName(model: InstalledModel) -> str:
    """How a list shows the model."""
    return model.description.name if model.description else model.id


def modelText(model: InstalledModel) -> str:
    """A few lines of rich text: what it finds, made for what, how good, which licence."""
    if model.description is None:
        return _("This model cannot be used: {problem}").format(problem=escape(model.problem))
    description = model.description
    lines = [_("<b>Finds</b> {names}").format(names=escape(_labels(description)))]
    made = " ".join(filter(None, (description.purpose.modality, description.purpose.body_part)))
    if made:
        lines.append(_("<b>Made for</b> {scans}").format(scans=escape(made + _boxes(description))))
    score = _score(description)
    if score:
        lines.append(score)
    if description.licence:
        lines.append(_("<b>Licence</b> {licence}").format(licence=escape(description.licence)))
    return "<br>".join(lines)


def modelToolTip(model: InstalledModel) -> str:
    """More words: the summary, the training and where it came from."""
    if model.description is None:
        return model.problem
    description = model.description
    training = description.training
    trained = ""
    if training.get("cases"):
        trained = _("Trained on {cases} cases.").format(cases=training["cases"])
    parts = (description.summary, trained, description.attribution, str(model.folder))
    return "\n\n".join(part for part in parts if part)


def _labels(description: ModelDescription) -> str:
    names = [label.name for label in description.labels]
    shown = ", ".join(names[:SHOWN_LABELS])
    if len(names) <= SHOWN_LABELS:
        return shown
    return _("{names} and {count} more").format(names=shown, count=len(names) - SHOWN_LABELS)


def _boxes(description: ModelDescription) -> str:
    extent = description.purpose.extent
    if description.purpose.trained_on != "boxes" or extent is None:
        return ""
    size = " x ".join(f"{mm:.0f}" for mm in extent)
    return _(", in boxes of about {size} mm: choose a region").format(size=size)


def _score(description: ModelDescription) -> str:
    mean = description.scores.get("mean_dice")
    if not isinstance(mean, (int, float)):
        return ""
    cases = description.scores.get("test_cases")
    return _("<b>Mean Dice</b> {dice} on {cases} cases it had not seen").format(
        dice=f"{mean:.2f}", cases=cases if cases else _("the")
    )
