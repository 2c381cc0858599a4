"""The ground floor: errors, recipes, artifacts, the store. Imports no torch."""
