"""Two lists of token ids side by side, for a message that says where they differ."""

from __future__ import annotations

from collections.abc import Sequence

_BEFORE, _AFTER = 3, 9


def side_by_side(
    ids: Sequence[int],
    strings: Sequence[str],
    other: Sequence[int],
    others: Sequence[str],
    who: str,
) -> str:
    """Two lists of ids around the first place where they differ, a token a line.

    Args:
        who: whose the second list is.
    """
    pairs = zip(ids, other, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(other)))
    lines = [f"  {'position':>8}  {'training':<28}  {who}"]
    for place in range(max(0, first - _BEFORE), min(max(len(ids), len(other)), first + _AFTER)):
        left, right = _token(ids, strings, place), _token(other, others, place)
        mark = "  <-- differs" if left != right else ""
        lines.append(f"  {place:>8}  {left:<28}  {right:<28}{mark}".rstrip())
    return "\n".join(lines)


def _token(ids: Sequence[int], strings: Sequence[str], place: int) -> str:
    if place >= len(ids):
        return "(ended)"
    return f"{ids[place]} {strings[place]!r}" if place < len(strings) else str(ids[place])
