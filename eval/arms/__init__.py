"""Ways of asking a model: each gives one `Prediction` for a row, in the rows' order."""
