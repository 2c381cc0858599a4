"""Personal data in a text: found by patterns and checksums, redacted as ``<EMAIL_ADDRESS>``.

No model and no network: names of people and street addresses are not found. Candidates come from
``finders``; here they are scored by the words before them and chosen. Scores are Presidio's: a
checksum that holds is 1.0, and a word such as "phone" before a candidate adds 0.35. A word such
as "order" halves what has no checksum.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator, Sequence

from pipeline.core.errors import DataError
from pipeline.data.cleaning.finders import ENTITIES, Candidate, Finder, finders

# Microsoft Presidio, LemmaContextAwareEnhancer: context_similarity_factor.
_CONTEXT_BONUS = 0.35
_CONTEXT_CHARACTERS = 40
_CONTEXT = {
    "PHONE_NUMBER": r"phone|\btel\b|\bcell|mobile|\bcall\b|whatsapp|\bfax\b|\bdial|hotline"
    r"|\btext me|\bsms\b|电话|手机|致电|拨打|联系方式|热线|来电|传真|座机|电联|號碼|電話|手機",
    "US_SSN": r"\bssns?\b|social security|\bss#",
    "IP_ADDRESS": r"\bip\b|\bipv[46]\b|IP地址",
}
_FOR = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _CONTEXT.items()}
_AGAINST = re.compile(
    r"\border|invoice|ticket|tracking|\bsku\b|serial|\bref\b|reference|\bisbn|\bmodel\b|\bcase\b"
    r"|\bpart\b|version|release|build|firmware|\bv(?=\.?\s?$)|订单|单号|编号|发票|版本|型号|流水|序号"
    r"|货号|工单|票号",
    re.IGNORECASE,
)
# Without four digits near each other, an @, a `::` or a long token there is nothing to find.
_SUSPECT = re.compile(r"\d(?:[^\w\n]{0,3}\d){3}|[@＠]|::|[0-9A-Za-z]{26}")
# Scripts written without blanks: there \b is no border between a letter and a number.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff"
    "\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff]+"
)
_FULL_WIDTH = re.compile("[\uff01-\uff5e]")
_WIDE = {
    code: code - 0xFEE0
    for code in [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)]
    + [ord(character) for character in "＠．－＋（）＿："]
}


def check_entities(names: Sequence[str]) -> None:
    """Refuses names that nothing here finds.

    Raises:
        DataError: with the names that are offered.
    """
    for name in names:
        if name not in ENTITIES:
            raise DataError(
                f"data.clean.personal_data.entities: {name} is not offered; choose from "
                + ", ".join(ENTITIES)
            )


class PersonalDataAnalyser:
    """Finds personal data; the heavy packages are loaded when a text first looks like it.

    Args:
        entities: which kinds, by Presidio's names; empty takes all of ENTITIES.
        least_score: candidates below it are passed over, from 0 to 1.
    """

    def __init__(self, entities: Sequence[str] = (), least_score: float = 0.5) -> None:
        check_entities(entities)
        self._finders = finders(tuple(entities) or ENTITIES)
        self._least_score = least_score

    def find(self, text: str) -> list[Candidate]:
        """What stands in the text, in order, without overlaps."""
        if not _SUSPECT.search(text):
            return []
        border = bordered(text)
        found = [
            candidate._replace(score=_score(candidate, text))
            for finder in self._finders
            for candidate in _candidates(finder, border)
        ]
        found = [candidate for candidate in found if candidate.score >= self._least_score]
        return _apart(found) if found else found

    def redact(self, text: str) -> str:
        """The text with everything found replaced by its kind, until nothing is found."""
        # Ends: each round takes out at least one digit or @, and puts none in.
        while found := self.find(text):
            pieces, end = [], 0
            for candidate in found:
                pieces += [text[end : candidate.start], f"<{candidate.entity}>"]
                end = candidate.end
            text = "".join([*pieces, text[end:]])
        return text


def bordered(text: str) -> str:
    """The text, as long as it was, with full-width digits and letters made ASCII and each
    character of a script without blanks made a line break.

    Patterns written for spaced scripts then find their borders, and no pattern reaches across.
    """
    if text.isascii():
        return text
    if _FULL_WIDTH.search(text):
        text = text.translate(_WIDE)
    return _UNSPACED.sub(lambda match: "\n" * len(match[0]), text)


def _candidates(finder: Finder, text: str) -> Iterator[Candidate]:
    """What a finder finds near where its gate opens: linear time even in a very long text."""
    for start, end in _windows(finder, text):
        for candidate in finder.find(text[start:end]):
            # A cut edge is no border: the number may go on behind it.
            cut_left = candidate.start == 0 and start > 0
            cut_right = candidate.end == end - start and end < len(text)
            if not (cut_left or cut_right):
                yield candidate._replace(start=candidate.start + start, end=candidate.end + start)


def _windows(finder: Finder, text: str) -> list[tuple[int, int]]:
    windows: list[tuple[int, int]] = []
    for match in finder.gate.finditer(text):
        start = max(0, match.start() - finder.reach)
        end = min(len(text), match.end() + finder.reach)
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((start, end))
    return windows


def _score(candidate: Candidate, text: str) -> float:
    if candidate.checked:
        return candidate.score
    before = text[max(0, candidate.start - _CONTEXT_CHARACTERS) : candidate.start]
    helps = _last(_FOR.get(candidate.entity), before)
    hurts = _last(_AGAINST, before)
    if helps > hurts:
        return min(1.0, candidate.score + _CONTEXT_BONUS)
    return candidate.score / 2 if hurts > helps else candidate.score


def _last(pattern: re.Pattern[str] | None, text: str) -> int:
    return max((match.end() for match in pattern.finditer(text)), default=-1) if pattern else -1


def _apart(found: list[Candidate]) -> list[Candidate]:
    """Of overlapping candidates the likelier, then the longer, then the earlier one."""
    chosen: list[tuple[int, Candidate]] = []
    for candidate in sorted(found, key=lambda c: (-c.score, c.start - c.end, c.start, c.entity)):
        at = bisect(chosen, candidate.start, key=lambda pair: pair[0])
        free_before = at == 0 or chosen[at - 1][1].end <= candidate.start
        if free_before and (at == len(chosen) or candidate.end <= chosen[at][0]):
            chosen.insert(at, (candidate.start, candidate))
    return [candidate for _, candidate in chosen]
