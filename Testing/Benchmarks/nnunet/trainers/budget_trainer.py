"""nnU-Net's own trainer, for as many epochs as fit into a wall-clock budget.

nnU-Net imports this file by way of nnUNet_extTrainer. Changed are the numbers of epochs and of
iterations in one, and that no training case is predicted at the end.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class BudgetTrainer(nnUNetTrainer):  # type: ignore[misc]
    """Ends, and with it the polynomial schedule, within half an epoch of the budget."""

    def initialize(self) -> None:
        """Set the lengths before the schedule is made."""
        self.num_epochs = int(os.environ["BENCHMARK_EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["BENCHMARK_ITERATIONS"])
        self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // 5)  # as 250:50
        self.seconds = {"train": 0.0, "validation": 0.0, "last_epoch": 0.0}
        super().initialize()

    def run_training(self) -> None:
        """The stock loop, with the number of epochs adjusted to the pace."""
        budget = float(os.environ["BENCHMARK_SECONDS"])
        self.on_train_start()
        begin, first = time.monotonic(), 0.0
        while self.current_epoch < self.num_epochs:
            epoch_begin = time.monotonic()
            self.on_epoch_start()
            self.on_train_epoch_start()
            outputs = [
                self.train_step(next(self.dataloader_train))
                for _ in range(self.num_iterations_per_epoch)
            ]
            self.on_train_epoch_end(outputs)
            trained = time.monotonic()
            with torch.no_grad():
                self.on_validation_epoch_start()
                outputs = [
                    self.validation_step(next(self.dataloader_val))
                    for _ in range(self.num_val_iterations_per_epoch)
                ]
                self.on_validation_epoch_end(outputs)
            validated = time.monotonic()
            self.on_epoch_end()  # counts the epoch
            now = time.monotonic()
            self.seconds = {
                "train": trained - epoch_begin,
                "validation": validated - trained,
                "last_epoch": now - epoch_begin,
            }
            passed, done = now - begin, self.current_epoch
            first = first or passed  # slower than the others: compiling, choosing algorithms
            if budget:
                pace = (passed - first) / (done - 1) if done > 1 else passed
                self.num_epochs = done + max(0, round((budget - passed) / pace))
                self.lr_scheduler.max_steps = self.num_epochs
        passed = time.monotonic() - begin
        self.on_train_end()
        told = {
            "train_seconds": passed,
            "epochs": self.current_epoch,
            "iterations": self.num_iterations_per_epoch,
            "patch": list(self.configuration_manager.patch_size),
            "batch": self.batch_size,
            "spacing": list(self.configuration_manager.spacing),
            "last_epoch": self.seconds,
        }
        text = json.dumps(told, indent=1, default=float)
        Path(os.environ["BENCHMARK_REPORT"]).write_text(text, encoding="utf-8")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Left out: all cases were trained on, and the test cases are predicted afterwards."""
