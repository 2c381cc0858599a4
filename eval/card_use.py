"""What a model card says of using the model: for what, who serves it, and how to load it alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.card_words import plain
from pipeline.core.objectives import OBJECTIVES, model_name

Tree = Mapping[str, Any]

_LIMITS = (
    "Nothing is known of it on other inputs, in other languages, or where an answer decides "
    "about a person without somebody who looks at it."
)
_CONTINUED = (
    "with torch.no_grad():",
    "    found = model.generate(**inputs, do_sample=False, max_new_tokens=64)",
    "found = found[0, inputs['input_ids'].shape[1] :]",
    "print(tokenizer.decode(found, skip_special_tokens=True))",
)
_ENCODED = ("with torch.no_grad():", "    print(model(**inputs).logits)")


def use(comparison: Tree, title: str, model: Tree) -> list[str]:
    """The sections on intended use and on how to use it.

    Args:
        comparison: as a card gets it.
        title: the recipe's name.
        model: what ``eval.model_facts`` tells.
    """
    suites = comparison.get("suites") or {}
    judged = suites.get("task") or suites.get("domain")
    intended = (
        f"For inputs like the rows that it was trained and judged on (suite {plain(judged)})."
        if judged
        else "It was judged on no task of its own."
    )
    parts = ["## Intended use", f"{intended} {_LIMITS}", "## How to use"]
    parts += [_served(comparison, title, model)]
    for objective in model.get("objectives") or ():
        parts += _alone(title, objective, model)
    return parts


def _served(comparison: Tree, title: str, model: Tree) -> str:
    """Whether there is a bundle of it: of the first objective's model, where that writes."""
    objectives = list(model.get("objectives") or ())
    if not objectives:
        return "`gradus serve` does not serve it: this recipe trained nothing."
    first = objectives[0]
    name = _code(model_name(title, first))
    if not OBJECTIVES[first].writes:
        return (
            f"`gradus serve` does not serve it: `{name}` (objective {first}) writes nothing, and "
            "no bundle is made of it. Ask it with `gradus eval`, or load it as below."
        )
    gates = comparison["gates"]
    if all(gate["status"] == "pass" for gate in gates) and gates:
        said = f"`gradus serve` serves it with its base: ask for model `{name}`."
    else:
        why = "not all its promises are kept" if gates else "nothing was promised of it"
        said = (
            f"`gradus serve` refuses it, for {why}; with `--ungated` it is served as model "
            f"`{name}`."
        )
    others = [_code(model_name(title, o)) for o in objectives[1:]]
    if others:
        said += f" Not served: {', '.join(f'`{other}`' for other in others)}; load as below."
    return said


def _alone(title: str, objective: str, model: Tree) -> list[str]:
    """How the model of one objective is loaded without gradus: words, and code that runs."""
    info = OBJECTIVES[objective]
    name = _code(model_name(title, objective))
    parts = []
    if info.writes:
        asked = _asked(model, objective) if info.chats else _asked({}, objective)
        code = [*_loaded(model), *asked, *_CONTINUED]
        parts += [f"`{name}` without gradus:", _python(code)]
    if info.head:
        head = (model.get("heads") or {}).get(objective)
        parts += [f"The head of `{name}` without gradus:"]
        if head is None or head.get("features"):
            parts.append(
                "It takes hand-made features beside the text; see `head.json` beside its weights."
                if head
                else "Of which kind it is stands in `head.json` beside its weights."
            )
        else:
            parts.append(_python([*_loaded(model), *_reads(model, objective, head)]))
    elif not info.writes:
        code = [*_loaded(model), *_asked({}, objective), *_ENCODED]
        parts += [f"`{name}` without gradus:", _python(code)]
    return parts


def _python(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _loaded(model: Tree) -> list[str]:
    """Lines that leave ``tokenizer`` and ``model``: an adapter over its base, or whole weights."""
    auto = "AutoModelForCausalLM" if model.get("causal", True) else "AutoModelForMaskedLM"
    method = (model.get("training") or {}).get("method")
    adapter = method not in (None, "full")
    lines = ["import torch", *(["from peft import PeftModel"] if adapter else [])]
    lines += [f"from transformers import {auto}, AutoTokenizer", ""]
    if not adapter:
        lines += [
            "folder = 'FOLDER OF THE MODEL'",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            f"model = {auto}.from_pretrained(folder).eval()",
        ]
        return lines
    pinned = model.get("base_kind") == "hub" and model.get("over_base", True)
    base, at = "'FOLDER OF THE BASE'", ""
    if pinned:
        base = repr(str(model["base"]))
        at = f", revision={str(model['revision'])!r}" if model.get("revision") else ""
    return [
        *lines,
        f"base, folder = {base}, 'FOLDER OF THE ADAPTER'",
        f"tokenizer = AutoTokenizer.from_pretrained(base{at})",
        f"model = {auto}.from_pretrained(base{at})",
        "model = PeftModel.from_pretrained(model, folder).eval()",
    ]


def _asked(model: Tree, objective: str) -> list[str]:
    """Lines that leave ``inputs``: a text as the rows were rendered, with a chat or without."""
    lines = [f"text = {'A LABEL' if objective == 'channel' else 'A TEXT LIKE ITS ROWS'!r}"]
    if not model.get("chat"):
        return [*lines, "inputs = tokenizer(text, return_tensors='pt')"]
    messages = "[{'role': 'user', 'content': text}]"
    if model.get("system") and objective != "channel":
        messages = f"[{{'role': 'system', 'content': {str(model['system'])!r}}}, {messages[1:]}"
    given = dict(model.get("chat_template_kwargs") or {})
    more = f", **{given!r}" if given else ""
    if model.get("own_template"):
        lines.append("# The recipe has a chat template of its own: set tokenizer.chat_template.")
    return [
        *lines,
        f"messages = {messages}",
        "inputs = tokenizer.apply_chat_template(",
        f"    messages, add_generation_prompt=True, return_tensors='pt', return_dict=True{more}",
        ")",
    ]


def _reads(model: Tree, objective: str, head: Tree) -> list[str]:
    """Lines from states to what the head says; adapters are of the model with its word head."""
    adapter = (model.get("training") or {}).get("method") not in (None, "full")
    body = "model.get_base_model().base_model" if adapter else "model.base_model"
    kind, pooling = head["kind"], head["pooling"]
    pooled = {
        "cls": "states = states[:, 0]",
        "last": "states = states[:, -1]",
        "mean": "states = states.mean(dim=1)",
    }
    told = {
        "single": ["print(head['labels'][int(logits.argmax())], logits.softmax(dim=-1))"],
        "multi": ["print([l for l, on in zip(head['labels'], logits[0].sigmoid() >= 0.5) if on])"],
        "tag": ["print([head['labels'][i] for i in logits[0].argmax(dim=-1)])"],
        "regress": ["print(float(logits[0, 0]) * head['value_std'] + head['value_mean'])"],
    }[kind]
    return [
        *_asked({} if kind == "tag" else model, objective),
        "import json",
        "from safetensors.torch import load_file",
        "",
        "with open(f'{folder}/head.json', encoding='utf-8') as file:",
        "    head = json.load(file)",
        "weight = load_file(f'{folder}/head.safetensors')['score.weight']",
        "with torch.no_grad():",
        f"    states = {body}(",
        "        input_ids=inputs['input_ids'], attention_mask=inputs['attention_mask']",
        "    ).last_hidden_state",
        *([] if kind == "tag" else [pooled[pooling]]),
        "logits = states.to(weight.dtype) @ weight.T",
        *told,
    ]


def _code(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum() or letter in "._-")
