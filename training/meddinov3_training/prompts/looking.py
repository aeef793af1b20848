"""A quick look at a click model in training: a simulated user on some held-out slabs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from meddinov3.description import ModelDescription
from meddinov3.inference.device import autocast
from meddinov3.network.prompt_segmenter import PromptSegmenter

from meddinov3_training.augmentation import Augmentation
from meddinov3_training.cache import CachedCase
from meddinov3_training.prompts.clicks import next_clicks
from meddinov3_training.prompts.lesson import Lesson
from meddinov3_training.prompts.practice import Practice, make_question
from meddinov3_training.prompts.slabs import SlabSamples
from meddinov3_training.validation import Scores

SLABS = 12
TOLD = (1, 3, 5)  # clicks
PLAIN = Augmentation(
    rotation_p=0, scaling_p=0, noise_p=0, blur_p=0, brightness_p=0, contrast_p=0,
    low_resolution_p=0, gamma_inverted_p=0, gamma_p=0,
)  # fmt: skip


def clicks_in_words(count: int) -> str:
    """The name of a score after some clicks."""
    return f"{count} click" if count == 1 else f"{count} clicks"


def quick_look(
    network: PromptSegmenter,
    description: ModelDescription,
    lesson: Lesson,
    cases: Sequence[CachedCase],
    device: torch.device,
    precision: str,
) -> Callable[[], Scores]:
    """A function that gives the mean Dice over some slabs after 1, 3 and 5 clicks.

    The slabs and the structures asked about are always the same.
    """
    samples = SlabSamples(cases, description, lesson, PLAIN, seed=0)
    practice = Practice(network, lesson, frozen=False)

    def look() -> Scores:
        training = network.training
        network.eval()
        dice: dict[int, list[float]] = {count: [] for count in TOLD}
        try:
            for number in range(SLABS):
                images, values = samples[number]
                random = np.random.default_rng(number)
                question = make_question(values.numpy(), lesson, random)
                if not question.wanted.any():
                    continue
                with torch.inference_mode(), autocast(device, precision):
                    tokens, picture = practice.read(images[None].to(device))
                    embedded = network.decoder.embed(tokens)
                    question.found = np.zeros_like(question.wanted)
                    for count in range(1, max(TOLD) + 1):
                        question.clicks += next_clicks(
                            question.found, question.wanted, lesson.spacing, valid=question.valid
                        )
                        question.remembers = count > 1
                        logits = practice.answer(embedded, picture, [question])[0]
                        question.found = (logits > 0).cpu().numpy()
                        if count in TOLD:
                            dice[count].append(_dice(question.found & question.valid,
                                                     question.wanted))  # fmt: skip
        finally:
            network.train(training)
        return {
            clicks_in_words(count): round(float(np.mean(found)), 4) if found else None
            for count, found in dice.items()
        }

    return look


def _dice(found: np.ndarray, wanted: np.ndarray) -> float:
    return 2 * int((found & wanted).sum()) / max(1, int(found.sum()) + int(wanted.sum()))
