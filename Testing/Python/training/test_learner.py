"""One step after another: split batches, several processes, memory, numbers that are none."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, describe
from meddinov3.bundle import backbone_shape
from meddinov3.description import ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.network.segmenter import Segmenter
from meddinov3_training.learner import Learner, mixed
from meddinov3_training.objective import Objective
from meddinov3_training.optimiser import CLIP, build_optimiser
from torch import Tensor, nn

CPU = torch.device("cpu")
NAMES = ("liver", "spleen", "tumour")


def described(regions: bool = False) -> ModelDescription:
    return describe(*NAMES, regions=regions)


def members(description: ModelDescription) -> tuple[tuple[int, ...], ...]:
    if description.regions:
        return ((1, 2, 3), (2, 3), (3,))
    return tuple((label.value,) for label in description.labels)


def learner(
    description: ModelDescription, drop_path: float = 0.0, rate: float = 1e-3, **options: Any
) -> Learner:
    torch.manual_seed(1)
    network = Segmenter(
        backbone_shape(description), description.network.outputs, drop_path, 1.0
    ).train()
    optimiser = build_optimiser(network, rate, rate)
    objective = Objective(description, members(description))
    return Learner(network, objective, optimiser, CPU, "fp32", clip=CLIP, seed=5, **options)


def batch(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Slices, and label values of which the last sample lacks most."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 32, 32, generator=random)
    values = torch.randint(0, 4, (count, 32, 32), generator=random)
    values[-1] = values[-1].clip(max=1)
    return images, values


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(regions: bool, parts: int) -> None:
    description = described(regions)
    whole, split = learner(description), learner(description)
    split.parts = parts
    losses = [each._gradient(*batch(), 1) for each in (whole, split)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    expected, found = gradients(whole.module), gradients(split.module)
    assert len(expected) > 20
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-6, rtol=1e-3, msg=name)


def test_dice_in_parts_is_not_the_mean_of_the_parts() -> None:
    """What plain accumulation would compute differs, so the test above can fail."""
    description = described()
    whole = learner(description)
    whole._gradient(*batch(), 1)
    expected = gradients(whole.module)
    naive = learner(description)
    for image, value in zip(*(part.chunk(3) for part in batch()), strict=True):
        logits = naive.module(image)
        torch.autograd.backward(naive._objective.sums(logits, value).loss() / 3)
    found = gradients(naive.module)
    apart = max(float((found[n] - expected[n]).abs().max()) for n in expected)
    assert apart > 1e-4


def test_memory_that_runs_out_splits_the_batch_and_nothing_else() -> None:
    description = described()
    plain, tight = learner(description, drop_path=0.0), learner(description, drop_path=0.0)
    forward = tight.module.forward

    def limited(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(images)

    tight.module.forward = limited  # type: ignore[method-assign]
    losses = [[each.learn(*batch(seed=s), s + 1, 1.0) for s in range(3)] for each in (plain, tight)]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)
    assert tight.parts == 4
    assert len(tight.notes) == 2 and "4 parts" in tight.notes[-1]
    for (name, a), b in zip(
        plain.module.named_parameters(), tight.module.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-2, msg=name)


def test_one_sample_that_does_not_fit_is_told() -> None:
    tight = learner(described())

    def never(images: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    tight.module.forward = never  # type: ignore[method-assign]
    with pytest.raises(MedDINOv3Error) as caught:
        tight.learn(*batch(), 1, 1.0)
    assert caught.value.code == "out-of-memory" and "--batch" in caught.value.remedy


def test_other_errors_are_not_taken_for_memory() -> None:
    broken = learner(described())
    with pytest.raises(RuntimeError, match="channels"):
        broken.learn(torch.zeros(2, 7, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long), 1, 1.0)


class TestNumbersThatAreNone:
    def test_a_step_without_a_number_changes_nothing(self) -> None:
        one = learner(described())
        one.learn(*batch(), 1, 1.0)
        before = copy.deepcopy(one.module.state_dict())
        images, values = batch()
        loss = one.learn(images * float("nan"), values, 2, 1.0)
        assert not np.isfinite(loss)
        assert all(torch.equal(v, before[k]) for k, v in one.module.state_dict().items())
        assert np.isfinite(one.learn(*batch(), 3, 1.0))

    def test_too_many_in_a_row_end_the_run(self) -> None:
        one = learner(described())
        images, values = batch()
        for step in range(1, 11):
            one.learn(images * float("nan"), values, step, 1.0)
        with pytest.raises(MedDINOv3Error) as caught:
            one.learn(images * float("nan"), values, 11, 1.0)
        assert caught.value.code == "diverged"


class TestState:
    @pytest.mark.parametrize("drop_path", [0.0, 0.3])
    def test_continued_bit_for_bit(self, drop_path: float) -> None:
        description = described()
        straight = learner(description, drop_path)
        broken = learner(description, drop_path)
        for step in range(1, 7):
            straight.learn(*batch(seed=step), step, 1 / step)
            if step <= 3:
                broken.learn(*batch(seed=step), step, 1 / step)
        tensors, facts = broken.state()
        stored = {k: v.clone() for k, v in tensors.items()}
        torch.manual_seed(99)
        fresh = learner(description, drop_path)
        fresh.learn(*batch(seed=50), 1, 1.0)  # whatever it was before does not matter
        fresh.restore(stored, facts)
        for step in range(4, 7):
            fresh.learn(*batch(seed=step), step, 1 / step)
        for part in ("module", "average", "optimiser"):
            mine = {k: v for k, v in fresh.state()[0].items() if k.startswith(part)}
            theirs = straight.state()[0]
            assert mine
            assert all(torch.equal(v, theirs[k]) for k, v in mine.items()), part

    @pytest.mark.parametrize("rates", [(1e-3, 1e-3), (1e-3, 1e-4)])
    def test_moments_stay_with_their_parameters_when_rates_change(
        self, rates: tuple[float, float]
    ) -> None:
        before = learner(described())
        before.optimiser = build_optimiser(before.module, *rates)
        before.learn(*batch(), 1, 1.0)
        tensors, facts = before.state()
        after = learner(described())
        after.optimiser = build_optimiser(
            after.module, 3e-4, 2e-4 if len(set(rates)) == 1 else 3e-4
        )
        after.restore({k: v.clone() for k, v in tensors.items()}, facts)
        moments = {name: value for name, value in after.state()[0].items() if "exp_avg" in name}
        assert len(moments) > 20
        assert all(torch.equal(value, tensors[name]) for name, value in moments.items())
        after.learn(*batch(seed=2), 2, 1.0)

    def test_of_another_network_is_refused(self) -> None:
        tensors, facts = learner(described()).state()
        with pytest.raises(MedDINOv3Error) as caught:
            learner(describe("liver")).restore(tensors, facts)
        assert caught.value.code == "checkpoint-does-not-fit"


def test_the_average_follows_and_can_be_put_in_place() -> None:
    one = learner(described(), rate=1e-2)
    start = copy.deepcopy(one.module.state_dict())
    expected = start["decoder.classify.weight"].clone()
    for step in range(1, 5):
        one.learn(*batch(seed=step), step, 1.0)
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * one.module.decoder.classify.weight.detach()  # type: ignore[union-attr, operator]
    trained = copy.deepcopy(one.module.state_dict())
    with one.average.in_place():
        torch.testing.assert_close(one.module.state_dict()["decoder.classify.weight"], expected)
        assert not torch.equal(expected, trained["decoder.classify.weight"])
    assert all(torch.equal(v, trained[k]) for k, v in one.module.state_dict().items())


def test_every_parameter_gets_a_gradient() -> None:
    one = learner(described())
    one._gradient(*batch(), 1)
    without = [n for n, p in one.module.named_parameters() if p.grad is None or not p.grad.any()]
    # DINOv3 hides the key's part of the bias; the last block's class token feeds nobody here.
    assert [n for n in without if "k_bias" not in n] == []


def test_seeds_differ_in_every_number() -> None:
    seeds = {mixed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    assert mixed(1, 23) != mixed(12, 3)


SCRIPT = """
import os, sys, torch
sys.path[:0] = [{training!r}, {tests!r}]
import test_learner as t
from meddinov3_training.distributed import join
group, device = join(torch.device("cpu"))
one = t.learner(t.described({regions}), group=group)
one.parts = {parts}
images, values = t.batch()
share = len(images) // group.world
mine = slice(group.rank * share, (group.rank + 1) * share)
losses = [one.learn(images[mine], values[mine], step, 1.0) for step in (1, 2)]
loss = one._gradient(images[mine], values[mine], 3)
group.wait()  # as a run does: who leaves early breaks the others' last exchange
if group.first:
    torch.save((losses + [loss], t.gradients(one.module), one.module.state_dict()), sys.argv[1])
group.leave()
os._exit(0)  # torch's threads may abort an ordinary exit, see distributed.end
"""


@pytest.mark.parametrize(("regions", "parts"), [(False, 1), (True, 3)])
def test_two_processes_are_one_process_on_the_joined_batch(
    tmp_path: Path, regions: bool, parts: int
) -> None:
    here = Path(__file__).parent
    script = tmp_path / "two.py"
    script.write_text(
        SCRIPT.format(training=str(here), tests=str(here.parent), regions=regions, parts=parts)
    )
    packages = os.pathsep.join(str(ROOT / part) for part in ("Logic", "training"))
    # One thread each: on a busy machine two that wait for each other take minutes.
    environment = {**os.environ, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(script), str(tmp_path / "found.pt")],
        check=False, env=environment, timeout=600, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    losses, found, weights = torch.load(tmp_path / "found.pt")
    alone = learner(described(regions))
    expected = [alone.learn(*batch(), step, 1.0) for step in (1, 2)]
    expected.append(alone._gradient(*batch(), 3))
    np.testing.assert_allclose(losses, expected, atol=2e-4)
    for name, value in gradients(alone.module).items():
        torch.testing.assert_close(found[name], value, atol=2e-3, rtol=2e-2, msg=name)
    for name, value in alone.module.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=2e-4, rtol=1e-2, msg=name)
