"""How good a click model is: a simulated user on whole held-out cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from meddinov3.features.click_model import ClickModel, open_click_tokens
from meddinov3.features.grid import FeatureGrid
from meddinov3.features.prompting import PromptSession
from meddinov3.features.prompts import Prompts
from meddinov3.progress import Steps, StopQuestion

from meddinov3_training.dataset import Case, Dataset, read_case_label
from meddinov3_training.metrics import dice
from meddinov3_training.prompts.clicks import next_clicks
from meddinov3_training.prompts.looking import clicks_in_words
from meddinov3_training.run import Run
from meddinov3_training.validation import SCORING, Scores, summary

TOLD = (1, 3, 5, 10)  # clicks
FAILED = 0.5  # Dice below which an answer is of no use


@dataclass(frozen=True)
class Exchange:
    """What one click led to.

    Attributes:
        dice: of the mask that was answered.
        positive: whether the click meant "inside".
        kept: whether the clicked voxel is as it was asked to be.
        seconds: until the answer.
        mask: (k, j, i) boolean.
    """

    dice: float
    positive: bool
    kept: bool
    seconds: float
    mask: np.ndarray


def converse(
    session: PromptSession, where: FeatureGrid, wanted: np.ndarray, clicks: int,
    valid: np.ndarray | None = None,
) -> list[Exchange]:  # fmt: skip
    """Click until the budget is used up, each click where the last mask is most wrong.

    Args:
        session: answers.
        where: the lattice of its tokens.
        wanted: the structure, boolean (k, j, i).
        clicks: most clicks; fewer if a mask is entirely right, whose figures then stand.
        valid: where something is annotated.
    """
    found = np.zeros_like(wanted)
    prompts = Prompts()
    said: list[Exchange] = []
    spacing = where.grid.spacing[::-1]
    known = np.ones_like(wanted) if valid is None else valid
    for _ in range(clicks):
        asked = next_clicks(found, wanted, spacing, valid=valid)
        if not asked:
            said.append(replace(said[-1], seconds=0.0))
            continue
        click = asked[0]
        point = where.grid.to_patient(np.array(click.index[::-1], dtype=float))[None]
        prompts = Prompts(
            np.concatenate([prompts.positive, point]) if click.positive else prompts.positive,
            prompts.negative if click.positive else np.concatenate([prompts.negative, point]),
            previous=found if said else None,
        )
        begin = time.monotonic()
        found = session.answer(prompts)
        passed = time.monotonic() - begin
        score = dice(found & known, wanted & known)
        kept = bool(found[click.index]) == click.positive
        said.append(Exchange(score or 0.0, click.positive, kept, passed, found))
    return said


def validate(
    model: ClickModel,
    dataset: Dataset,
    cases: Sequence[Case],
    run: Run,
    stop: StopQuestion | None = None,
) -> dict[str, Any]:
    """Ask about every structure of every held-out case; Dice after 1, 3, 5 and 10 clicks.

    Returns:
        What the model's description says: means over structures and cases, and the share of
        structures that fail.

    Raises:
        Cancelled: `stop` said so.
    """
    steps = Steps(SCORING, len(cases), None, stop)
    scores: dict[str, Scores] = {}
    after: dict[int, list[float]] = {count: [] for count in TOLD}
    begin = time.monotonic()
    for number, case in enumerate(cases):
        steps.check()
        run.tell("scoring", what=SCORING, case=case.id, number=number + 1, of=len(cases),
                 done=round(number / len(cases), 4), left=None)  # fmt: skip
        volume = case.read()
        reference = read_case_label(case, volume, dataset)
        valid = None if dataset.ignore is None else reference != dataset.ignore
        tokens = open_click_tokens(volume, model)
        session = PromptSession(tokens, model)
        here: dict[int, list[float]] = {count: [] for count in TOLD}
        for members in dataset.members:
            wanted = np.isin(reference, members)
            if not wanted.any():
                continue
            steps.check()
            said = converse(session, tokens.where, wanted, max(TOLD), valid)
            for count in TOLD:
                here[count].append(said[count - 1].dice)
                after[count].append(said[count - 1].dice)
        tokens.close()
        scores[case.id] = {
            clicks_in_words(count): float(np.mean(found)) if found else None
            for count, found in here.items()
        }
        left = (time.monotonic() - begin) / (number + 1) * (len(cases) - number - 1)
        run.tell("validated", case=case.id, dice=scores[case.id], number=number + 1,
                 of=len(cases), left=round(left))  # fmt: skip
    found = summary(scores, [clicks_in_words(count) for count in TOLD])
    if found:
        found["failed_share"] = {
            clicks_in_words(count): round(float(np.mean(np.array(values) < FAILED)), 4)
            for count, values in after.items()
            if values
        }
    return found
