"""What makes a model: recipes, plans, stages and the command line."""
