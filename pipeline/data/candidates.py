"""What a model answered: the text taken out of its wrapping, and why a text is refused.

Only what can be told without another model is told here. Copies of evaluation rows and near
copies are found later, where every training row is compared (`contamination`,
`near_duplicates`); a text that has drifted to another label by `label_errors`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from pipeline.data.augmentation import Ask
from pipeline.data.gathering import text_hash
from pipeline.data.rows import Row, row_text
from pipeline.data.shelf import NO_LABEL, Shelf

_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_TAGS = re.compile(r"<text>\s*(.*?)\s*</text>", re.DOTALL)
_NUMBER = re.compile(r"(?:\d{1,2}[.)、]|[-*•])\s+")
_LEAD = re.compile(
    r"(?:(?:sure|certainly|of course)\b[^\n:：]{0,20})?"
    r"(?:here(?:['’]s| is| are)\b[^\n:：]{0,60}"
    r"|(?:paraphrased?|rewritten|reworded|revised|new)(?: (?:text|version|sentence))?"
    r"|rewrite|paraphrase|text|改写(?:后|后的文本|如下)?|新文本|以下是[^\n::]{0,20})\s*[:：]\s*",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "『": "』", "`": "`"}
_HELP = (
    r"(?:help|assist|comply|fulfil|provide|rewrite|rephrase|paraphrase|generate|write|create|"
    r"answer|respond|engage|continue|do that|do this)"
)
# What a customer says ("I can't find my card", "sorry, but ...") is no refusal.
_REFUSALS = (
    r"i(?:['’]m| am) sorry,? but (?:i|as)\b",
    r"i apologi[sz]e,? but (?:i|as)\b",
    rf"(?:(?:i(?:['’]m| am) )?sorry[,.] )?i (?:can(?:no|['’])t|won['’]t) {_HELP}\b",
    rf"(?:(?:i(?:['’]m| am) )?sorry[,.] )?i(?:['’]m| am) (?:unable|not able) to {_HELP}\b",
    r"as an? (?:ai|artificial intelligence|(?:large )?language model)\b",
    r"(?:很?抱歉|对不起)[,，]?\s*(?:但是?)?\s*我?(?:无法|不能)",
    r"我(?:无法|不能)(?:帮|协助|提供|改写|生成|满足|回答)",
    r"作为(?:一个|一名|一款)?\s*(?:ai|人工智能|(?:大型?)?语言模型)",
)
_REFUSAL = re.compile("|".join(_REFUSALS), re.IGNORECASE)
_FACTS = re.compile(r"https?://[^\s,;)]+|\S+@\S+\.\w+|\{\{?[^{}\n]{1,40}\}\}?|\d+(?:[.,:]\d+)*")
_ADDRESS = re.compile(r"https?://\S+|\S+@\S+")
# Below this py3langid's word is not worth a refusal; a Han character says about as much as three.
_JUDGED_CHARACTERS = 48
_SURE, _HARDLY = 0.9, 0.05
_FAMILY = {"wuu": "zh", "yue": "zh", "nn": "no", "nb": "no"}


def taken_out(answer: str, like: str = "") -> str:
    """The text of an answer: no thoughts, no lead-in, no number, no quotes around it.

    Args:
        like: a real text; what it wears itself is left on the answer.
    """
    text = _THOUGHT.sub("", answer).strip()
    before = None
    while text != before:
        before = text
        text = _unwrapped(text, like.strip()).strip()
    return text


def _unwrapped(text: str, like: str) -> str:
    for wrapping in (_FENCE, _TAGS):
        found = wrapping.fullmatch(text)
        if found and not wrapping.fullmatch(like):
            return found[1]
    # Of a list the first number is no wrapping: it is refused as a list.
    for opening in (_LEAD,) if _listed(text) else (_LEAD, _NUMBER):
        found = opening.match(text)
        if found and not opening.match(like):
            return text[found.end() :]
    right = _QUOTES.get(text[:1])
    wears = len(like) > 1 and like[0] == text[:1] and like[-1] == right
    if right is not None and len(text) > 1 and text[-1] == right and not wears:
        inner = text[1:-1]
        # "a" and "b": two quotations, not one text in quotes.
        return text if right in inner and text[0] in inner else inner
    return text


class Sieve:
    """Refuses texts; knows every training row and every text that it has let pass.

    Its word on a text depends on those before it, so texts come in a fixed order.
    """

    def __init__(self, shelf: Shelf, kind: str) -> None:
        """Reads the hashes of all real rows, and which labels they name themselves."""
        self._kind = kind
        self._real = np.unique(shelf.text_hash)
        self._made: set[int] = set()
        self._named = _labels_named(shelf)

    def refuse(self, ask: Ask, text: str, row: Row, finish: str | None) -> str | None:
        """Why the text is refused, in a few words that are counted; None lets it pass.

        Args:
            row: the canonical row that it would make.
            finish: why the model stopped, as the endpoint says.
        """
        reason = _unusable(ask, text, finish) or self._repeated(ask, text, row)
        if reason is None and ask.label is not None and ask.label not in self._named:
            # Where no real row holds the name of its label, it would give the answer away.
            reason = "names its label" if names(text, ask.label) else None
        if (
            reason is None
            and self._kind == "paraphrase"
            and not _facts(ask.models[0]) <= _facts(text)
        ):
            reason = "lost a number, an address or a field"
        if reason is None and ask.models and another_language(text, "\n".join(ask.models)):
            reason = "another language"
        if reason is None:
            self._made.add(text_hash(row_text(row)))
        return reason

    def _repeated(self, ask: Ask, text: str, row: Row) -> str | None:
        found = text_hash(text)
        if any(found == text_hash(model) for model in ask.models):
            return "same as its original" if self._kind == "paraphrase" else "same as an example"
        whole = text_hash(row_text(row))
        at = int(np.searchsorted(self._real, np.uint64(whole)))
        if at < len(self._real) and int(self._real[at]) == whole:
            return "stands in train"
        return "made before" if whole in self._made else None


def _unusable(ask: Ask, text: str, finish: str | None) -> str | None:
    if finish == "length" or "<think>" in text:
        return "cut off at max_new_tokens"
    if finish == "content_filter":
        return "refused by the model"
    if not any(c.isalnum() for c in text):
        return "empty"
    if _broken(text):
        return "damaged characters"
    if _REFUSAL.match(text) and not any(_REFUSAL.match(model.strip()) for model in ask.models):
        return "refused by the model"
    if re.search(r"</?text>", text) and not any("text>" in model for model in ask.models):
        return "repeats the request"
    if _listed(text) and not any(_listed(model) for model in ask.models):
        return "several texts"
    return "too long" if len(text) > ask.longest else None


def _broken(text: str) -> bool:
    return any(
        c == "\ufffd" or (c not in "\n\t\r" and unicodedata.category(c) in ("Cc", "Cs"))
        for c in text
    )


def _listed(text: str) -> bool:
    return sum(_NUMBER.match(line) is not None for line in text.splitlines()) > 1


def names(text: str, label: str) -> bool:
    """Whether the text holds the label's name as it reads; names of under three letters say no."""
    name, words = _words(label), _words(text)
    if not name.isascii():
        return name.replace(" ", "") in words.replace(" ", "")
    return len(name) > 2 and not name.isdigit() and f" {name} " in f" {words} "


def _words(text: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).split())


def _labels_named(shelf: Shelf) -> frozenset[str]:
    """Labels that some real row of theirs holds."""
    found: set[int] = set()
    if not (shelf.label != NO_LABEL).any():
        return frozenset()
    for text, code in zip(shelf.texts(), shelf.label.tolist(), strict=True):
        if code != NO_LABEL and code not in found and names(text.as_py(), shelf.labels[code]):
            found.add(code)
    return frozenset(shelf.labels[code] for code in found)


def _facts(text: str) -> set[str]:
    return {fact.rstrip(".!?。") for fact in _FACTS.findall(unicodedata.normalize("NFKC", text))}


def another_language(text: str, model: str) -> bool:
    """Whether a text is surely in another language or script than a real one."""
    own, real = _latin_share(text), _latin_share(model)
    if own is not None and real is not None and abs(own - real) > 0.8:
        return True
    if min(_weight(text), _weight(model)) < _JUDGED_CHARACTERS:
        return False
    told, expected = _languages(text), _languages(model)
    likeliest = max(expected, key=lambda name: expected[name])
    return min(expected[likeliest], max(told.values())) >= _SURE and (
        told.get(likeliest, 0.0) <= _HARDLY
    )


def _latin_share(text: str) -> float | None:
    letters = [c for c in _ADDRESS.sub("", text) if c.isalpha()]
    return sum(c < "\u0250" for c in letters) / len(letters) if letters else None


def _weight(text: str) -> int:
    return sum(3 if c > "\u2e80" else 1 for c in _ADDRESS.sub("", text) if c.isalpha())


def _languages(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, probability in _identifier().rank(_ADDRESS.sub(" ", text)[:2000]):
        name = _FAMILY.get(name, name)
        found[name] = found.get(name, 0.0) + float(probability)
    return found


@lru_cache(maxsize=1)
def _identifier() -> Any:
    # By name, as it ships no types.
    langid = import_module("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
