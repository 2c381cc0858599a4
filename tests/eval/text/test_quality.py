"""Quality equals what the libraries and the field's own scripts say of the same texts."""

from __future__ import annotations

import re

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

from eval.text.quality import quality, rouge, token_f1
from pipeline.core.errors import DataError

REFERENCES = [
    "The card was sent on Monday.",
    "Transfers take two working days, sometimes three.",
    "A new passcode is made in the app",
    "There is no fee for payments in euros.",
    "Call the number on the back of the card!",
]
ANSWERS = [
    "The card was sent on a Monday",
    "transfers take three days",
    "the app makes a new passcode in the app",
    "There is no fee for payments in euros.",
    "I do not know",
]
CHINESE = ["银行卡已经寄出。", "转账需要两个工作日，有时三个。", "请拨打卡背面的电话"]
ANSWERED = ["银行卡已寄出", "转账要两个工作日。", "请打电话"]


def test_exact_match_and_token_f1_are_those_of_squads_script() -> None:
    found = quality(ANSWERS, REFERENCES)
    exact = [compute_exact(b, a) for a, b in zip(ANSWERS, REFERENCES, strict=True)]
    f1 = [compute_f1(b, a) for a, b in zip(ANSWERS, REFERENCES, strict=True)]
    assert 0 < sum(exact) < len(exact)
    assert found["exact_match"]["estimate"] == pytest.approx(np.mean(exact))
    assert found["token_f1"]["estimate"] == pytest.approx(np.mean(f1))
    assert [token_f1(a, b) for a, b in zip(ANSWERS, REFERENCES, strict=True)] == pytest.approx(f1)


@pytest.mark.parametrize(("answer", "reference", "f1"), [("", "", 1), ("", "x", 0), ("x", "", 0)])
def test_empty_answers_count_as_squads_script_counts_them(
    answer: str, reference: str, f1: float
) -> None:
    assert token_f1(answer, reference) == f1 == compute_f1(reference, answer)


def test_token_f1_of_chinese_counts_characters() -> None:
    # 3 of 4 characters of either side are shared.
    assert token_f1("今天下雨", "明天下雨") == pytest.approx(0.75)


def test_bleu_and_chrf_are_sacrebleus_and_tell_its_signature() -> None:
    found = quality(ANSWERS, REFERENCES)
    assert found["bleu"]["estimate"] == sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score
    assert found["chrf"]["estimate"] == sacrebleu.corpus_chrf(ANSWERS, [REFERENCES]).score
    assert "tok:13a" in found["bleu"]["signature"]
    assert f"version:{sacrebleu.__version__}" in found["chrf"]["signature"]
    for name in ("bleu", "chrf"):
        assert found[name]["low"] < found[name]["estimate"] <= found[name]["high"]


def test_chinese_texts_are_cut_by_sacrebleus_chinese_tokenizer() -> None:
    found = quality(ANSWERED, CHINESE)
    assert found["language"] == "zh"
    assert "tok:zh" in found["bleu"]["signature"]
    wanted = sacrebleu.corpus_bleu(ANSWERED, [CHINESE], tokenize="zh").score
    assert (
        found["bleu"]["estimate"] == wanted > 1.5 * sacrebleu.corpus_bleu(ANSWERED, [CHINESE]).score
    )


def test_rouge_is_rouge_scores_own() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    found = rouge(ANSWERS, REFERENCES)
    for index, (answer, reference) in enumerate(zip(ANSWERS, REFERENCES, strict=True)):
        for name, score in scorer.score(reference, answer).items():
            assert found[name][index] == score.fmeasure


def test_rouge_of_chinese_is_that_of_its_characters_spelled_out() -> None:
    def spelled(text: str) -> str:
        return " ".join(f"c{ord(letter):x}" for letter in re.sub(r"\W", "", text))

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    found = rouge(ANSWERED, CHINESE)
    for index, (answer, reference) in enumerate(zip(ANSWERED, CHINESE, strict=True)):
        for name, score in scorer.score(spelled(reference), spelled(answer)).items():
            assert found[name][index] == score.fmeasure
            assert score.fmeasure > 0


def test_rouge_of_other_alphabets_is_not_lost() -> None:
    assert rouge(["Идёт сильный дождь"], ["Идёт дождь"])["rouge1"] == [pytest.approx(0.8)]


def test_numbers_are_judged_where_the_reference_is_one() -> None:
    found = quality(["about 5%", "six", "no number"], ["5%", "6", "a word"])["numeric"]
    assert (found["items"], found["estimate"]) == (2, 0.5)
    assert "half a unit" in found["rule"]
    assert quality(ANSWERS, REFERENCES)["numeric"] is None


def test_only_what_follows_the_mark_is_the_answer() -> None:
    found = quality(["so #### 4", "so #### 5"], ["hence #### 4", "hence #### 6"], after="####")
    assert found["exact_match"]["estimate"] == 0.5


def test_faultless_texts_score_full_marks() -> None:
    found = quality(REFERENCES, REFERENCES)
    assert found["exact_match"]["estimate"] == found["rougeL"]["estimate"] == 1
    assert found["bleu"]["estimate"] == pytest.approx(100)
    assert found["exact_match"]["low"] < 1


def test_one_text_has_figures_without_intervals() -> None:
    found = quality(["a b c d e"], ["a b c d f"])
    assert found["bleu"]["low"] is None
    assert found["bleu"]["estimate"] > 0


@pytest.mark.parametrize(("answers", "references"), [([], []), (["a"], [])])
def test_texts_without_references_are_refused(answers: list[str], references: list[str]) -> None:
    with pytest.raises(DataError, match="one reference for each"):
        quality(answers, references)
