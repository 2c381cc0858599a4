"""How much is computed at once: what the loop takes, and what the price counts with."""

from __future__ import annotations

from collections.abc import Mapping

# A GPU wants large products; on a CPU 2,048 tokens at once were 1.16 times as fast as 4,096.
TOKENS_AT_ONCE: Mapping[str, int] = {"cuda": 16_384, "cpu": 2_048}
# Logits of one chunk of the loss: 2^25 are 128 MiB in float32. A GPU would wait for the weight
# of a vocabulary of 150,000 with fewer rows than 2^27 hold (from its data sheet; not measured).
CHUNK_ELEMENTS: Mapping[str, int] = {"cuda": 1 << 27, "cpu": 1 << 25}
