"""lm-evaluation-harness, in a process and an environment of its own: known benchmarks, and ours."""
