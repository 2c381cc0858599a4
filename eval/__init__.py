"""What proves a model: predictors, metrics, statistics, comparison, report."""
