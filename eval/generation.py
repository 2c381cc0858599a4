"""How a model in memory is asked to write: its context, where it ends, and nothing beside that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from eval.batching import batches, device_of, judged_model, padded
from pipeline.modeling.endings import ends


def context_of(model: Any) -> int | None:
    """Tokens that a model reads and writes at most; None where its config sets no end."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not limit:
        return None
    for name, module in model.named_modules():
        unused = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and unused is not None:
            # RoBERTa's kind numbers positions from behind the padding's.
            return int(limit) - int(unused) - 1
    return int(limit)


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """The ids at which a model's answer ends, sorted."""
    return ends(model.generation_config.eos_token_id, tokenizer)


@contextmanager
def plain_generation(model: Any) -> Iterator[None]:
    """What the caller asks for and nothing else: ``generate`` would add the model's penalties."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = own


def written(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
    processors: Sequence[Any] = (),
    **how: Any,
) -> list[list[int]]:
    """The ids that follow each prompt of one batch, its stop id and padding included.

    Greedy unless ``how`` says otherwise. Call it within ``plain_generation``.

    Args:
        processors: transformers' LogitsProcessors.
        how: further settings of transformers' GenerationConfig.
    """
    from transformers import GenerationConfig

    ids_BT, mask_BT = padded(prompts, pad_id, left=True, device=device_of(model))
    settings = {"do_sample": False, "num_beams": 1, "use_cache": True, **how}
    output_BT = model.generate(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        logits_processor=list(processors),
        generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=max_new_tokens,
            eos_token_id=list(stops),
            pad_token_id=pad_id,
            **settings,
        ),
    )
    found: list[list[int]] = output_BT[:, ids_BT.shape[1] :].tolist()
    return found


def written_all(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
    batch_size: int,
    **how: Any,
) -> list[list[int]]:
    """What follows each prompt, up to the first stop id and without it, in the prompts' order."""
    found: list[list[int]] = [[] for _ in prompts]
    ending = set(stops)
    with judged_model(model), plain_generation(model):
        for batch in batches([len(prompt) for prompt in prompts], batch_size):
            chosen = [prompts[index] for index in batch]
            rows = written(
                model, chosen, stops=stops, pad_id=pad_id, max_new_tokens=max_new_tokens, **how
            )
            for index, row in zip(batch, rows, strict=True):
                end = next((place for place, token in enumerate(row) if token in ending), len(row))
                found[index] = row[:end]
    return found
