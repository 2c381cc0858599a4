"""Which language a text is in, offline (py3langid, its model inside the package)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from pipeline.core.errors import DataError
from pipeline.data.cleaning.code_spans import prose

# Enough to judge by; the rest would only cost time.
_JUDGED_CHARACTERS = 2000
# ISO 639-3 macrolanguages: whoever keeps zh keeps Wu and Cantonese, which py3langid tells apart
# from Mandarin by few characters (262 of 949 Chinese news titles came out as Wu).
_MEMBERS = {
    "zh": ("wuu", "yue"),
    "ar": ("ary", "arz"),
    "no": ("nn",),
    "lv": ("ltg",),
    "uz": ("uzs",),
    "ku": ("sdh",),
}
_ADDRESSES = re.compile(r"https?://\S+|\S+@\S+")


def judged(text: str) -> str:
    """What of a text is judged: no code, no addresses, its beginning."""
    text = _ADDRESSES.sub(" ", prose(text)) if "@" in text or "://" in text else prose(text)
    return text.strip()[:_JUDGED_CHARACTERS]


class LanguageJudge:
    """Tells whether a text is in one of some languages.

    Args:
        keep: ISO 639-1 codes, or 639-3 where there is none.
        least_probability: what the kept languages together must reach, from 0 to 1.
    """

    def __init__(self, keep: Sequence[str], least_probability: float = 0.5) -> None:
        self._keep = tuple(keep)
        self._least = least_probability
        self._wanted: frozenset[str] | None = None

    def refuse(self, text: str) -> str | None:
        """Why the text is not in one of the languages: ``de 0.98``; None where it is."""
        identifier = _identifier()
        if self._wanted is None:
            self._wanted = self._known(identifier.labels)
        best, probability = identifier.classify(text)
        if best in self._wanted and probability >= self._least:
            return None
        # Kept together they may reach what none reaches alone: zh 0.45 and yue 0.40.
        probabilities: list[tuple[str, float]] = identifier.rank(text)
        if sum(p for name, p in probabilities if name in self._wanted) >= self._least:
            return None
        under = f", under {self._least:g}" if best in self._wanted else ""
        return f"{best} {probability:.2f}{under}"

    def _known(self, labels: Sequence[str]) -> frozenset[str]:
        for name in self._keep:
            if name not in labels:
                raise DataError(
                    f"data.clean.language.keep: {name} is not known; choose from "
                    + ", ".join(sorted(labels))
                )
        return frozenset(self._keep).union(*(_MEMBERS.get(name, ()) for name in self._keep))


def likeliest(text: str) -> str:
    """The likeliest language, as py3langid names it (ISO 639-1)."""
    return str(_identifier().classify(text)[0])


def is_english(text: str) -> bool:
    """Whether English is the likeliest language."""
    return bool(_identifier().classify(judged(text))[0] == "en")


@lru_cache(maxsize=1)
def _identifier() -> Any:
    # By name, as it ships no types.
    langid = import_module("py3langid.langid")
    # Its own singleton gives unnormalised scores, and is everybody's.
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
