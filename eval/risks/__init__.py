"""The risk page of a model: each line a measurement, or a plain "not measured" with why."""
