"""A family whose answers are known, brief and the same at any temperature.

Suites judge a server, and their checks need answers that end, calls of a tool, JSON that closes. A
random model gives none of that. Here the next token stands on the last one alone: a bigram in the
shape of Qwen3, its attention and its MLP silent, so that the real engine runs all that it runs for
any model.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tiny_family import CONTROLS, Family, make_family

MAX_MODEL_LEN = 2048
ANSWER = "My card was declined."
CALL = (
    "<tool_call>", '\n{"name": "magic_function", ', '"arguments": ', '{"input": 3}', "}\n",
    "</tool_call>",
)  # fmt: skip
"""The call of a tool that is made where tools are offered, in the pieces that it comes in."""
USES_TOOLS = "<|tools|>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}{{ c['function'] | tojson }}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if tools and messages[-1]['role'] != 'tool' %}<|tools|>{% endif %}{% endif %}"
)
# What comes where nothing follows: the end, and where a grammar forbids that, what closes JSON
# soonest. Steps of 20 hold at any temperature that is let through.
_RANKS = {"<|im_end|>": 100, '"': 80, "}": 60, "]": 40, "3": 20}
_STEP, _SPACE, _LONG, _NEVER = 20.0, -2200.0, -2500.0, -5000.0
_FOLLOWS = 50.0
_LOUD = 1000.0


def make_brief_family(root: Path) -> Family:
    """The tiny family with a base that answers ``ANSWER``, and calls a tool where it has one."""
    family = make_family(root)
    _make_brief(family.base)
    place = family.bundle / "bundle.json"
    tree = json.loads(place.read_text())
    controls = {**CONTROLS, "always": [*CONTROLS["always"], USES_TOOLS]}
    tree |= {"max_model_len": MAX_MODEL_LEN, "controls": controls}
    place.write_text(json.dumps(tree))
    return family


def _make_brief(base: Path) -> None:
    import torch
    from transformers import AddedToken, AutoTokenizer, Qwen3ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([AddedToken(USES_TOOLS, special=True)], special_tokens=True)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in CALL])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(base)

    model: Any = Qwen3ForCausalLM.from_pretrained(base, dtype=torch.float32)
    # Every row is written below.
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.max_position_embeddings = MAX_MODEL_LEN
    weights = model.state_dict()
    for name, weight in weights.items():
        if "o_proj" in name or "down_proj" in name:
            weight.zero_()
    # One direction is of all tokens: along it lie the ranks.
    signs = torch.randint(0, 2, (len(tokenizer), 128), generator=torch.manual_seed(3)) * 2.0 - 1
    signs[:, 0] = 1
    weights["model.embed_tokens.weight"].copy_(signs * _LOUD)
    head = weights["lm_head.weight"].zero_()
    for token, text in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        head[token, 0] = _RANKS.get(text, _rank(text))
    (line_end,) = tokenizer.encode("\n", add_special_tokens=False)
    answer = tokenizer.encode(ANSWER, add_special_tokens=False)
    call = tokenizer.convert_tokens_to_ids([USES_TOOLS, *CALL])
    for chain in ([line_end, *answer], call):
        for last, following in itertools.pairwise(chain):
            head[following, 0] = _NEVER
            head[following] += _FOLLOWS * signs[last] * (torch.arange(128) > 0)
    model.save_pretrained(base)


def _rank(text: str) -> float:
    """No two characters have the same, so nothing is left to chance; white space comes last."""
    if len(text) != 1:
        return _LONG
    return -_STEP * (ord(text) - 32) if "!" <= text <= "~" else _SPACE
