"""Words of a model card: text that Markdown leaves alone, and licences as the hub names them."""

from __future__ import annotations

_MARKDOWN = "\\`*_{}[]<>#|~$"
# https://huggingface.co/docs/hub/repositories-licenses; `unknown` and `other` stand by themselves.
_LICENCES = frozenset({
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0",
    "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl",
    "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c", "ms-pl", "apple-ascl", "mpl-2.0", "odc-by", "odbl",
    "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl",
    "lgpl-lr", "deepfloyd-if-license", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3",
    "llama4", "gemma",
})  # fmt: skip


def plain(text: object) -> str:
    """Words on one line, with nothing in them that Markdown or HTML would read as more."""
    flat = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in _MARKDOWN else letter for letter in flat)


def hub_licence(named: str | None) -> dict[str, str]:
    """``license`` of a card's metadata, and ``license_name`` where the hub has no such one.

    Args:
        named: a licence, of the hub's list in any case (SPDX names differ by case alone) or
            another; None: nobody named one.
    """
    if named is None or not named.strip():
        return {"license": "unknown"}
    folded = named.strip().lower()
    if folded in _LICENCES | {"unknown", "other"}:
        return {"license": folded}
    return {"license": "other", "license_name": " ".join(named.split())}
