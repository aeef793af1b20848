"""What a click model practises: it is asked about a structure, corrected, and asked again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from meddinov3.network.prompt_decoder import neighbouring
from meddinov3.network.prompt_maps import StackPrompts, draw_prompts
from meddinov3.network.prompt_segmenter import PromptSegmenter
from torch import Tensor, nn

from meddinov3_training.losses import LossSums, region_sums
from meddinov3_training.objective import Forward
from meddinov3_training.prompts.clicks import Click, next_clicks
from meddinov3_training.prompts.inventing import invented
from meddinov3_training.prompts.lesson import Lesson
from meddinov3_training.prompts.slabs import BEYOND

ROUNDS = (1, 2, 3, 4)  # answers in one step; only the last one teaches
BOX_CHANCE, PREVIOUS_CHANCE = 0.25, 0.8
INVENTED_CHANCE = 0.35
BOX_LOOSE, BOX_TIGHT = 0.25, 0.05  # of an edge's length that a drawn box misses by


class Answer(NamedTuple):
    """The last answer and what it should have been.

    Attributes:
        logits: (N, 1, rows, columns) over all slices of the batch.
        target: the same, boolean.
        valid: (N, rows, columns), where something is annotated.
    """

    logits: Tensor
    target: Tensor
    valid: Tensor


@dataclass
class Question:
    """What has been asked about one slab so far."""

    wanted: np.ndarray
    valid: np.ndarray
    clicks: list[Click] = field(default_factory=list)
    box: np.ndarray | None = None
    remembers: bool = True
    found: np.ndarray | None = None


class Practice(nn.Module):
    """A click model in training; takes slabs (or their tokens) and label values.

    Args:
        network: whose parts it trains.
        lesson: shape of the slabs.
        frozen: samples are packed tokens and intensities, see :meth:`pack`; the backbone is left
            out.
    """

    def __init__(self, network: PromptSegmenter, lesson: Lesson, frozen: bool) -> None:
        super().__init__()
        self.backbone = None if frozen else network.backbone
        self.decoder = network.decoder
        self._width = network.backbone.width
        self._lesson = lesson

    def forward(self, images: Tensor, values: Tensor) -> Answer:
        """Be asked about one structure of each slab, be corrected, and answer at last.

        Random choices are torch's.

        Args:
            images: (B, S, offsets * channels, rows, columns), or (B, n) packed.
            values: (B, S, fine rows, fine columns) label-map values.
        """
        tokens, picture = self.read(images)
        embedded = self.decoder.embed(tokens)
        random = np.random.default_rng(int(torch.randint(2**62, ())))
        questions = [
            make_question(one, self._lesson, random, shown)
            for one, shown in zip(
                values.cpu().numpy(), picture[:, :, 0].float().cpu().numpy(), strict=True
            )
        ]
        rounds = ROUNDS[random.integers(len(ROUNDS))]
        budget = [_click_count(random, self._lesson.prompts.clicks) for _ in questions]
        for turn in range(rounds):
            for question, most in zip(questions, budget, strict=True):
                share = 1 if turn == 0 else -(-(most - 1) // (rounds - 1))
                self._ask(question, min(share, most - len(question.clicks)), turn, random)
            if turn < rounds - 1:
                with torch.no_grad():
                    logits = self.answer(embedded.detach(), picture, questions)
                for question, found in zip(questions, (logits > 0).cpu().numpy(), strict=True):
                    question.found = found
        logits = self.answer(embedded, picture, questions).flatten(0, 1)[:, None]
        target, valid = (
            torch.from_numpy(np.stack([getattr(q, name) for q in questions])).to(logits.device)
            for name in ("wanted", "valid")
        )
        return Answer(logits, target.flatten(0, 1)[:, None], valid.flatten(0, 1))

    def answer(self, embedded: Tensor, picture: Tensor, questions: list[Question]) -> Tensor:
        """Logits (B, S, fine rows, fine columns) for what has been asked so far.

        Args:
            embedded: (B, S, token rows, token columns, width).
            picture: (B, S, channels, fine rows, fine columns).
            questions: one for each slab.
        """
        count, device = embedded.shape[1], embedded.device
        stack, prompts = self._lesson.stack(device), self._lesson.prompts
        fine, coarse = [], []
        for slab, question in zip(embedded, questions, strict=True):
            places = [
                torch.tensor(
                    [click.index for click in question.clicks if click.positive is kind],
                    dtype=torch.int64, device=device,
                ).reshape(-1, 3)
                for kind in (True, False)
            ]  # fmt: skip
            scale = torch.tensor(self._lesson.spacing, device=device)
            half = torch.tensor([0.0, 0.5, 0.5], device=device)
            earlier = question.found if question.remembers else None
            asked = StackPrompts(
                *((place + half) * scale for place in places),
                *(None if m is None else torch.from_numpy(m).to(device)
                  for m in (question.box, earlier)),
            )  # fmt: skip
            drawn = draw_prompts(stack, asked, prompts.near, prompts.far)
            cells = prompts.cells
            examples = [slab[p[:, 0], p[:, 1] // cells, p[:, 2] // cells] for p in places]
            fine.append(drawn[0])
            coarse.append(torch.cat([drawn[1], self.decoder.likeness(slab, examples)], dim=1))
        before, after = neighbouring(count, 1, len(questions))
        logits: Tensor = self.decoder(
            embedded.flatten(0, 1), picture.flatten(0, 1), torch.cat(fine), torch.cat(coarse),
            (before.to(device), after.to(device)),
        )  # fmt: skip
        return torch.unflatten(logits.float(), 0, (-1, count))[:, :, 0]

    def _ask(self, question: Question, count: int, turn: int, random: np.random.Generator) -> None:
        """Draw the next prompts: where the mask is wrong, or a box to begin with."""
        if not question.wanted.any():
            return
        found = np.zeros_like(question.wanted) if question.found is None else question.found
        if turn == 0:
            question.remembers = bool(random.random() < PREVIOUS_CHANCE)
            if random.random() < BOX_CHANCE:
                question.box = drawn_box(question.wanted, random)
                if random.random() < 0.5:  # a box alone
                    return
        question.clicks += next_clicks(
            found, question.wanted, self._lesson.spacing, max(count, 0), valid=question.valid,
            random=random,
        )  # fmt: skip

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, rows, columns, W) and intensities (B, S, channels, fine rows, columns)."""
        lesson = self._lesson
        if self.backbone is None:
            return unpack(images, lesson, self._width)
        tokens = self.backbone(images.flatten(0, 1))
        tokens = tokens.unflatten(1, lesson.tokens).unflatten(0, images.shape[:2])
        return tokens, fine_picture(images, lesson)


class PromptObjective:
    """The loss of a click model: Dice and cross-entropy of its last answer."""

    def ask(self, forward: Forward, images: Tensor, values: Tensor) -> Answer:
        """Run the practice."""
        answer: Answer = forward(images, values)
        return answer

    def sums(self, answer: Answer, _values: Tensor) -> LossSums:
        """Sums of the loss."""
        return region_sums(answer.logits.float(), answer.target, answer.valid)


def fine_picture(images: Tensor, lesson: Lesson) -> Tensor:
    """Intensities at fine pixels (..., channels, fine rows, fine columns) of slabs as encoded."""
    own = images[..., lesson.own_channels, :, :]
    factor = images.shape[-1] // lesson.fine[1]
    return torch.unflatten(F.avg_pool2d(own.flatten(0, -4), factor), 0, own.shape[:-3])


def pack(tokens: Tensor, picture: Tensor) -> Tensor:
    """One slab's tokens and fine intensities as one vector, for the pool of tokens."""
    return torch.cat([tokens.flatten(), picture.flatten()])


def packed_length(lesson: Lesson, width: int) -> int:
    """Numbers of a packed slab of a backbone `width` wide."""
    tokens = lesson.tokens[0] * lesson.tokens[1] * 4 * width
    return lesson.slices * (tokens + lesson.channels * lesson.fine[0] * lesson.fine[1])


def unpack(packed: Tensor, lesson: Lesson, width: int) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`pack` for a batch (B, n)."""
    slices, channels = lesson.slices, lesson.channels
    rows, columns = lesson.tokens
    count = slices * rows * columns * 4 * width
    tokens = torch.unflatten(packed[:, :count], 1, (slices, rows, columns, 4 * width))
    return tokens, torch.unflatten(packed[:, count:], 1, (slices, channels, *lesson.fine))


def drawn_box(wanted: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A box around a structure as somebody draws it: mostly a little too large."""
    box = np.zeros_like(wanted)
    edges = []
    for axis in range(wanted.ndim):
        others = tuple(n for n in range(wanted.ndim) if n != axis)
        shown = np.flatnonzero(wanted.any(axis=others))
        length = shown[-1] - shown[0] + 1
        low, high = random.uniform(-BOX_LOOSE, BOX_TIGHT, 2) * length
        edges.append(slice(max(0, round(shown[0] + low)), max(1, round(shown[-1] + 1 - high))))
    box[tuple(edges)] = True
    return box


def _click_count(random: np.random.Generator, most: int) -> int:
    """Clicks on one structure; few are more common than many."""
    weights = 1 / np.arange(1, most + 1)
    return int(random.choice(most, p=weights / weights.sum())) + 1


def make_question(
    values: np.ndarray,
    lesson: Lesson,
    random: np.random.Generator,
    picture: np.ndarray | None = None,
) -> Question:
    """A structure to ask about; an empty one where a slab shows nothing.

    Args:
        values: (S, rows, columns) label-map values.
        lesson: shape of the slab, and which values are structures.
        random: which one.
        picture: intensities (S, rows, columns); with it some structures are invented.
    """
    valid = values != BEYOND
    if lesson.ignore is not None:
        valid &= values != lesson.ignore
    if picture is not None and random.random() < INVENTED_CHANCE:
        wanted = invented(picture, valid, lesson.spacing, random)
        if wanted is not None:
            return Question(wanted, valid)
    present = np.unique(values[valid])
    shown = [m for m in lesson.members if np.isin(present, m).any()]
    if not shown:
        return Question(np.zeros_like(valid), valid)
    wanted = np.isin(values, shown[random.integers(len(shown))])
    return Question(wanted & valid, valid)
