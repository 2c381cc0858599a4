"""What checkable prompts are about, and how their instructions are worded."""

from __future__ import annotations

from collections.abc import Mapping

OPENINGS = (
    "Write a short text about {subject}.",
    "Explain to a child what {subject} means.",
    "Give some advice about {subject}.",
    "Tell a small story in which {subject} plays a part.",
    "Describe {subject} to somebody who has never heard of it.",
    "Write an e-mail to a colleague about {subject}.",
    "What are the best and the worst sides of {subject}?",
    "Write a notice for a village hall about {subject}.",
    "Say why some people care so much about {subject}.",
    "Prepare a brief talk on {subject}.",
)
SUBJECTS = (
    "baking bread", "a broken umbrella", "learning to swim", "moving to a new town",
    "a lost parcel", "growing tomatoes", "the last train home", "keeping bees",
    "an old bicycle", "paying a bill late", "a walk in the rain", "sharing a kitchen",
    "the first day at work", "mending a shirt", "a quarrel with a neighbour", "saving money",
    "a power cut", "writing letters by hand", "a visit to the dentist", "feeding birds in winter",
    "waiting in a queue", "a school play", "buying a used car", "getting up early",
)  # fmt: skip
LANGUAGES: Mapping[str, str] = {
    "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "ru": "Russian",
}  # fmt: skip
WORDINGS: Mapping[str, tuple[str, ...]] = {
    "keywords:existence": (
        "Use the words {keywords}.",
        "The words {keywords} have to appear in your answer.",
    ),
    "keywords:frequency": (
        'Use the word "{keyword}" {relation} {frequency} times.',
        'The word "{keyword}" should stand in your answer {relation} {frequency} times.',
    ),
    "keywords:forbidden_words": (
        "Do not use the words {forbidden_words}.",
        "Leave out the words {forbidden_words} altogether.",
    ),
    "keywords:letter_frequency": (
        'The letter "{letter}" should occur {let_relation} {let_frequency} times.',
        'Use the letter "{letter}" {let_relation} {let_frequency} times.',
    ),
    "language:response_language": (
        "Answer in {language} only.",
        "Your whole answer should be in {language} and in no other language.",
    ),
    "length_constraints:number_sentences": (
        "Your answer should have {relation} {num_sentences} sentences.",
        "Write {relation} {num_sentences} sentences.",
    ),
    "length_constraints:number_paragraphs": (
        "Write exactly {num_paragraphs} paragraphs and part them by three asterisks: ***",
        "Your answer has {num_paragraphs} paragraphs with *** between one and the next.",
    ),
    "length_constraints:number_words": (
        "Use {relation} {num_words} words.",
        "Your answer should have {relation} {num_words} words.",
    ),
    "length_constraints:nth_paragraph_first_word": (
        "Write {num_paragraphs} paragraphs with an empty line between one and the next. "
        'Paragraph {nth_paragraph} begins with the word "{first_word}".',
        "Part your answer by empty lines into {num_paragraphs} paragraphs and let number "
        '{nth_paragraph} start with "{first_word}".',
    ),
    "detectable_content:number_placeholders": (
        "Leave {num_placeholders} or more gaps to be filled in later, each in square brackets, "
        "such as [name].",
        "Include at least {num_placeholders} placeholders in square brackets, such as [date].",
    ),
    "detectable_content:postscript": (
        "Add a postscript at the end that starts with {postscript_marker}",
        "Close with a postscript; begin it with {postscript_marker}",
    ),
    "detectable_format:number_bullet_lists": (
        "Include exactly {num_bullets} bullet points, each on a line that begins with *",
        "Your answer holds a list of exactly {num_bullets} points, each line beginning with *",
    ),
    "detectable_format:constrained_response": (
        'Would you do that yourself? Answer with one of these: "My answer is yes.", "My answer '
        'is no.", "My answer is maybe."',
        'Is that worth doing? Choose one of "My answer is yes.", "My answer is no." and "My '
        'answer is maybe." and write no more.',
    ),
    "detectable_format:number_highlighted_sections": (
        "Highlight at least {num_highlights} parts with asterisks, like *this*.",
        "Mark {num_highlights} or more passages by *one asterisk on either side*.",
    ),
    "detectable_format:multiple_sections": (
        "Give your answer {num_sections} sections and open each with {section_spliter} and its "
        "number, as in {section_spliter} 1.",
        "Divide the text into {num_sections} parts headed {section_spliter} 1, "
        "{section_spliter} 2 and so on.",
    ),
    "detectable_format:json_format": (
        "Give the whole answer as JSON.",
        "Your answer must be valid JSON and nothing besides.",
    ),
    "detectable_format:title": (
        "Put a title in double angle brackets, such as <<a day out>>.",
        "Give it a title and wrap that in double angle brackets, like <<my title>>.",
    ),
    "combination:two_responses": (
        "Give two different answers with six asterisks between them: ******",
        "Answer twice, in two different ways, and part the two by ******",
    ),
    "combination:repeat_prompt": (
        'Before you answer, repeat this word for word: "{prompt_to_repeat}"',
        'First write "{prompt_to_repeat}" without any change, then answer.',
    ),
    "startend:end_checker": (
        'End with exactly these words: "{end_phrase}"',
        'Your last words are "{end_phrase}" and nothing follows them.',
    ),
    "startend:quotation": (
        "Put your whole answer in double quotation marks.",
        'Begin and end your answer with a double quotation mark (").',
    ),
    "change_case:capital_word_frequency": (
        "Write {capital_relation} {capital_frequency} words in capital letters only.",
        "Words all in capitals should occur {capital_relation} {capital_frequency} times.",
    ),
    "change_case:english_capital": (
        "Answer in English and in capital letters only.",
        "Write everything in English with capital letters and no small ones.",
    ),
    "change_case:english_lowercase": (
        "Answer in English and in small letters only.",
        "Write in English, all in lower case, without one capital letter.",
    ),
    "punctuation:no_comma": (
        "Do not use any commas.",
        "Your answer must not hold a single comma.",
    ),
}
"""Instruction to the sentences that ask for it; slots are named as IFEval's ``kwargs``."""
