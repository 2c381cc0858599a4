"""Synthetic answers to every checkable instruction, near the border between right and wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

EACH = 100
SENTENCES = (
    "The ferry leaves at 7.30 a.m. from the old pier.", "Bring a coat, a map and some water.",
    "Dr. Vale lives on St. Anne Street.", "It was 9 p.m. when they met.",
    "He came at 9 p.m. The hall was dark.", "Ask J. R. Hill. He knows.", "See Plan B. It works.",
    "\"Stop!\" she cried. (Nobody did.)", "Rain, wind, etc. are no reason.", "Wait... He is here.",
    "It rose by 3. The next day it fell.", "On Feb. 3 they left the U.S. for good.",
    "Is it? No! Yes...", "Acme Inc. sells tea. So do others.", "Is the harbour open on Sunday?",
    "What a storm!",
    "Tickets cost 4.50, children pay half.", "We waited... and nothing came.",
    "The U.S. visitors arrived late.", "She asked \"why?\" and left.", "No. 5 is the red boat.",
    "NASA and the BBC filmed it.", "I don't know who's there.", "It rained (again).",
    "Tea, e.g. mint tea, is served below deck.", "Mr. J. Reed wrote the timetable.",
    "Look: the island is near!", "Two days later, the wind turned.", "He said no", "ALL ABOARD!",
    "Visit harbour.com for news.", "The fog lifted. The gulls cried.", "1. Pack a bag.",
)  # fmt: skip
SPOKEN = {
    "en": "the boat leaves in the morning and we will be home again before it is dark outside",
    "de": "das Boot fährt am Morgen ab und wir werden vor der Dunkelheit wieder zu Hause sein",
    "fr": "le bateau part le matin et nous serons de retour chez nous avant la nuit tombée",
    "es": "el barco sale por la mañana y estaremos de vuelta en casa antes de que anochezca",
    "it": "la barca parte la mattina e saremo di nuovo a casa prima che faccia buio fuori",
    "ru": "лодка уходит утром, и мы вернёмся домой ещё до того, как на улице станет темно",
    "ko": "배는 아침에 떠나고 우리는 밖이 어두워지기 전에 다시 집에 돌아올 것입니다",
    "ja": "船は朝に出発し、私たちは外が暗くなる前に家に帰ります",
    "hi": "नाव सुबह निकलती है और हम अंधेरा होने से पहले घर वापस आ जाएंगे",
    "ar": "يغادر القارب في الصباح وسنعود إلى المنزل قبل أن يحل الظلام في الخارج",
}
RELATIONS = ("less than", "at least")


def prose(rng: random.Random, most: int = 7) -> str:
    """A few sentences, in one line or several."""
    between = rng.choice([" ", " ", " ", "\n", "\n\n"])
    return between.join(rng.choice(SENTENCES) for _ in range(rng.randint(1, most)))


def joined(rng: random.Random, mark: str, edge: float = 0.2) -> str:
    """Pieces of prose around a mark, sometimes with an empty piece or a mark at an edge."""
    pieces = ["" if rng.random() < 0.1 else prose(rng, 2) for _ in range(rng.randint(1, 4))]
    text = mark.join(pieces)
    if rng.random() < edge:
        text = mark + text
    return text + mark if rng.random() < edge else text


def keywords(rng: random.Random) -> tuple[dict[str, Any], str]:
    words = rng.sample(["harbour", "storm", "boat", "ticket", "NO", "tea", "gull", "fog"], 2)
    return {"keywords": words}, prose(rng, 9)


def keyword_frequency(rng: random.Random) -> tuple[dict[str, Any], str]:
    word = rng.choice(["the", "harbour", "is", "boat "])
    told = {"keyword": word, "frequency": rng.randint(1, 4), "relation": rng.choice(RELATIONS)}
    return told, prose(rng)


def forbidden(rng: random.Random) -> tuple[dict[str, Any], str]:
    return {"forbidden_words": rng.sample(["fog", "Tea", "boa", "St", "map", "late"], 2)}, prose(
        rng
    )


def letters(rng: random.Random) -> tuple[dict[str, Any], str]:
    told = {"letter": rng.choice("abQez"), "let_frequency": rng.randint(1, 9),
            "let_relation": rng.choice(RELATIONS)}  # fmt: skip
    return told, prose(rng, 3)


def language(rng: random.Random) -> tuple[dict[str, Any], str]:
    spoken, asked = rng.choice(list(SPOKEN)), rng.choice(list(SPOKEN))
    return {"language": spoken if rng.random() < 0.6 else asked}, SPOKEN[spoken]


def number_sentences(rng: random.Random) -> tuple[dict[str, Any], str]:
    told = {"num_sentences": rng.randint(1, 8), "relation": rng.choice(RELATIONS)}
    return told, prose(rng, 8)


def paragraphs(rng: random.Random) -> tuple[dict[str, Any], str]:
    mark = rng.choice(["***", "\n***\n", "\n\n***\n\n", "****"])
    return {"num_paragraphs": rng.randint(1, 4)}, joined(rng, mark)


def number_words(rng: random.Random) -> tuple[dict[str, Any], str]:
    return {"num_words": rng.randint(5, 40), "relation": rng.choice(RELATIONS)}, prose(rng)


def first_word(rng: random.Random) -> tuple[dict[str, Any], str]:
    number = rng.randint(1, 4)
    text = "\n\n".join(
        rng.choice(["", "'", '"', "*", " "]) + rng.choice(["Tea", "tea", "Tea's", "Fog,", "The"])
        + " " + prose(rng, 1)
        for _ in range(number)
    )  # fmt: skip
    text = text if rng.random() < 0.8 else "\n\n" + text
    told = {"num_paragraphs": rng.choice([number, number, number, number + 1]),
            "nth_paragraph": rng.randint(1, number),
            "first_word": rng.choice(["tea", "Fog"])}  # fmt: skip
    return told, text


def placeholders(rng: random.Random) -> tuple[dict[str, Any], str]:
    marks = rng.choices(["[name]", "[]", "[a\nb]", "[x] [y]", "[[z]]"], k=rng.randint(0, 3))
    return {"num_placeholders": rng.randint(1, 4)}, prose(rng, 3) + " " + " ".join(marks)


def postscript(rng: random.Random) -> tuple[dict[str, Any], str]:
    end = rng.choice(["P.S. bye", "p. s. bye", "P.P.S bye", "p.p.s. bye", "PS bye", "", "P. P.S x"])
    return {"postscript_marker": rng.choice(["P.S.", "P.P.S", "PS"])}, f"{prose(rng, 2)}\n{end}"


def bullets(rng: random.Random) -> tuple[dict[str, Any], str]:
    signs = rng.choices(["* ", "- ", "  * ", "** ", "*", "+ ", ""], k=rng.randint(1, 5))
    text = "\n".join(sign + rng.choice(["tea", "a map", "water"]) for sign in signs)
    return {"num_bullets": rng.randint(1, 4)}, text


def one_of_three(rng: random.Random) -> tuple[dict[str, Any], str]:
    answer = rng.choice(["yes.", "no.", "maybe.", "yes", "never."])
    return {}, rng.choice(["", "Well. "]) + rng.choice(["My answer is ", "my answer is "]) + answer


def highlights(rng: random.Random) -> tuple[dict[str, Any], str]:
    marks = rng.choices(["*tea*", "**fog**", "* *", "****", "*a\nb*", "*x", "***z***"], k=3)
    return {"num_highlights": rng.randint(1, 4)}, " and ".join(marks)


def sections(rng: random.Random) -> tuple[dict[str, Any], str]:
    word = rng.choice(["Section", "SECTION", "Day"])
    text = "\n".join(
        rng.choice([f"{word} {i}", f"{word}{i}", f"{word.lower()} {i}", f"{word} {'abc'[i % 3]}"])
        + "\n" + prose(rng, 1)
        for i in range(rng.randint(1, 4))
    )  # fmt: skip
    return {"section_spliter": word, "num_sections": rng.randint(1, 4)}, text


def json_format(rng: random.Random) -> tuple[dict[str, Any], str]:
    body = rng.choice(['{"tea": 2}', "[1, 2]", '{"tea": 2', "tea", '"tea"', "{'a': 1}", "3"])
    opening, closing = rng.choice(
        [("", ""), ("```json\n", "\n```"), ("```", "```"), ("```JSON\n", "```"), ("Here: ", "")]
    )
    return {}, opening + body + closing + rng.choice(["", "", "\n"])


def title(rng: random.Random) -> tuple[dict[str, Any], str]:
    mark = rng.choice(["<<Tea>>", "<< >>", "<Tea>", "<<a\nb>>", "<<<Fog>>>", "<<>>"])
    return {}, f"{mark}\n{prose(rng, 2)}"


def two_responses(rng: random.Random) -> tuple[dict[str, Any], str]:
    one = prose(rng, 2)
    other = one if rng.random() < 0.2 else prose(rng, 2)
    mark = rng.choice(["******", "\n******\n", "*****", "*******"])
    if rng.random() < 0.4:
        return {}, joined(rng, mark)
    return {}, one + mark + other


def repeat(rng: random.Random) -> tuple[dict[str, Any], str]:
    asked = "Write about the harbour."
    head = rng.choice([asked, asked.upper(), f" {asked}", "Sure. " + asked, asked[:-1]])
    return {"prompt_to_repeat": asked}, f"{head}\n{prose(rng, 2)}"


def ending(rng: random.Random) -> tuple[dict[str, Any], str]:
    phrase = "Is there anything else?"
    tail = rng.choice([phrase, phrase.lower(), f'{phrase}"', f"{phrase} ", f"{phrase}!", ""])
    return {"end_phrase": phrase}, f"{prose(rng, 2)} {tail}"


def quotation(rng: random.Random) -> tuple[dict[str, Any], str]:
    one, other = rng.choice([('"', '"'), ('"', ""), ("", '"'), ("“", "”"), ("'", "'"), ('"', '" ')])
    return {}, one + prose(rng, 2) + other


def capital_words(rng: random.Random) -> tuple[dict[str, Any], str]:
    told = {"capital_frequency": rng.randint(1, 5), "capital_relation": rng.choice(RELATIONS)}
    text = " ".join(
        word.upper() if rng.random() < 0.25 else word for word in prose(rng, 3).split(" ")
    )
    return told, text


def capitals(rng: random.Random) -> tuple[dict[str, Any], str]:
    text = SPOKEN[rng.choice(["en", "en", "en", "de", "fr"])]
    return {}, rng.choice([text.upper(), text.upper(), text, text.upper() + "a"])


def small_letters(rng: random.Random) -> tuple[dict[str, Any], str]:
    text = SPOKEN[rng.choice(["en", "en", "en", "es", "it"])]
    return {}, rng.choice([text.lower(), text.lower(), text.upper(), text + " A"])


def no_comma(rng: random.Random) -> tuple[dict[str, Any], str]:
    return {}, prose(rng, 4)


MAKERS: dict[str, Callable[[random.Random], tuple[dict[str, Any], str]]] = {
    "keywords:existence": keywords,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": forbidden,
    "keywords:letter_frequency": letters,
    "language:response_language": language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": first_word,
    "detectable_content:number_placeholders": placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": bullets,
    "detectable_format:constrained_response": one_of_three,
    "detectable_format:number_highlighted_sections": highlights,
    "detectable_format:multiple_sections": sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat,
    "startend:end_checker": ending,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_words,
    "change_case:english_capital": capitals,
    "change_case:english_lowercase": small_letters,
    "punctuation:no_comma": no_comma,
}


def cases(each: int = EACH) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Instruction, what it is told, and an answer; the same every time."""
    for name, make in MAKERS.items():
        rng = random.Random(f"ifeval/{name}")
        for _ in range(each):
            told, text = make(rng)
            yield name, told, text
