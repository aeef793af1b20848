"""How good a model is: scores by case and label, their spread, comparisons, a report."""
