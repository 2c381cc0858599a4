"""Models in memory: loading, adapters and their stacking, heads, memory estimates."""
