"""What ``meddinov3 models`` tells people about a model, a backbone or an entry of the catalogue."""

from __future__ import annotations

import click
from meddinov3.catalogue import CatalogueEntry, entry_of
from meddinov3.description import BackboneDescription, ModelDescription

Facts = list[tuple[str, str]]  # heading and text


def echo_facts(facts: Facts) -> None:
    """Print them one a line, empty ones left out."""
    for heading, text in facts:
        if text:
            click.echo(f"{heading:<14}{text}")


def entry_facts(entry: CatalogueEntry) -> Facts:
    """What can be pulled: what for, from where, how large, under which licence."""
    return [
        ("id", entry.id),
        ("name", entry.name),
        ("what for", entry.purpose),
        ("pretrained on", entry.modality or "natural images"),
        ("network", entry.architecture),
        ("from", f"{entry.page}, {entry.file}"),
        ("revision", entry.revision),
        ("download", entry.size),
        ("licence", entry.licence),
        *(("", f"see {page}") for page in entry.licence_pages),
    ]


def backbone_facts(description: BackboneDescription) -> Facts:
    """What an installed backbone is, and where exactly it came from."""
    entry, hub = entry_of(description), description.hub
    changed = ", ".join(f"{key} {value}" for key, value in description.overrides.items())
    return [
        ("id", description.id),
        ("name", entry.name if entry else description.name),
        ("what for", entry.purpose if entry else "a backbone to train from"),
        ("pretrained on", description.modality),
        ("network", f"{description.backbone} ({changed})" if changed else description.backbone),
        ("from", f"{hub.repository}, {hub.file}" if hub else f"{description.source}, by hand"),
        ("revision", hub.revision if hub else ""),
        ("SHA-256", hub.sha256 if hub else ""),
        ("mask token", "yes" if description.has_mask_token else "none"),
        ("licence", description.licence),
        ("cite", description.attribution),
    ]


def model_facts(description: ModelDescription) -> Facts:
    """What a model finds, on what, how, how well, and under which licence."""
    purpose, sampling = description.purpose, description.sampling
    extent = " x ".join(f"{mm:.0f}" for mm in purpose.extent) if purpose.extent else ""
    spacing = " x ".join(f"{mm:g}" for mm in sampling.spacing) if sampling.spacing else "as scanned"
    slices = f"{sampling.orientation.code} along {sampling.orientation.slice_axis}, {spacing} mm"
    if len(sampling.slice_offsets) > 1:
        slices += f", with neighbours at {', '.join(f'{o:g}' for o in sampling.slice_offsets)} mm"
    made_on = {"boxes": "boxes around the structure", "scans": "whole scans"}[purpose.trained_on]
    scores = description.scores.get("dice", {})
    return [
        ("id", description.id),
        ("name", description.name),
        ("summary", description.summary),
        ("finds", ", ".join(f"{label.name} ({label.value})" for label in description.labels)),
        ("channels", ", ".join(f"{c.name} ({c.intensity.kind})" for c in description.channels)),
        ("made for", " ".join(filter(None, (purpose.modality, purpose.body_part)))),
        (
            "trained on",
            made_on + (f" of about {extent} mm (slices x rows x columns)" if extent else ""),
        ),
        ("slices", slices),
        ("network", f"{description.network.backbone} from {description.network.backbone_source}"),
        ("Dice", ", ".join(f"{name} {value}" for name, value in scores.items())),
        ("licence", description.licence),
        ("cite", description.attribution),
    ]
