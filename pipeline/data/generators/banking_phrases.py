"""Sentence templates of the synthetic bank: documents, customers' messages, held-out ones.

A slot such as ``{event}`` takes a text of that kind from a matter, ``{Event}`` the same
with a capital; ``{yours}`` is an event told to the reader ("your card has not come").
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of document: a heading, some sentences, an ending.

    Attributes:
        headings: One of them opens the document.
        sentences: `count` of them follow, none twice unless there are too few.
        endings: One of them closes it.
        count: Fewest and most sentences.
        joint: What stands between sentences: a space for prose, a newline for lists.
    """

    headings: tuple[str, ...]
    sentences: tuple[str, ...]
    endings: tuple[str, ...]
    count: tuple[int, int]
    joint: str


KNOWLEDGE: dict[str, Kind] = {
    "article": Kind(
        headings=("{Title}", "Help: {title}", "{Title} and {name}", "All about {title}"),
        sentences=(
            'Customers often write: "{Event}."',
            "If {yours}, the usual reason is that {cause}.",
            "It happens that {cause}, and soon {yours}.",
            "{Remedy}, or {remedy}.",
            "Words such as {term}, {term} and {term} belong to {title}.",
            "Think of {name}: {term}, {term}, {term}.",
            "When {yours}, {remedy}.",
            "Most cases of {title} begin when {yours} or when {yours}.",
            "Behind {title} there is often one thing: {cause}.",
            "This page on {name} also helps if {yours}.",
            'Whoever says "{event}" has come to the right page.',
        ),
        endings=(
            "More on {title}: {remedy}.",
            "So much for {title}.",
            "The same page serves {name}.",
        ),
        count=(4, 6),
        joint=" ",
    ),
    "faq": Kind(
        headings=("Questions about {title}", "{Title}, asked and answered", "FAQ: {name}"),
        sentences=(
            "Question: What if {yours}? Answer: {Remedy}.",
            "Question: Why is it that {event}? Answer: Because {cause}.",
            "Question: Does {title} mean that {yours}? Answer: Yes, and in that case {remedy}.",
            "Question: They say that {cause}, what now? Answer: {Remedy}.",
            "Question: {Term} or {term}, what is it about? Answer: It is about {title}.",
            "Question: {Event}, where do I turn? Answer: To the people of {title}.",
        ),
        endings=("Last: {remedy}.", "Further answers stand under {name}."),
        count=(3, 4),
        joint="\n",
    ),
    "glossary": Kind(
        headings=("Glossary of {title}", "Words around {name}", "{Title}: what the words mean"),
        sentences=(
            "{Term}: a word for {name}, as in: {event}.",
            "{Term}: goes with {term} and {term}.",
            "{Term}: who mentions it means {title}, for {cause}.",
            "{Term}: heard when {yours}.",
            "{Term}: it comes up where we say: {remedy}.",
        ),
        endings=("All these words: {title}.", "Together they describe {name}."),
        count=(4, 5),
        joint="\n",
    ),
    "note": Kind(
        headings=("Call note.", "Note of a chat.", "Branch visit.", "Voicemail, written down."),
        sentences=(
            'The customer says: "{Event}."',
            'Later the customer adds: "{Event}."',
            "We explained that {cause}.",
            "Advice given: {remedy}.",
            "Heard in the call: {term}, {term}.",
            'A second caller told us the same: "{event}."',
        ),
        endings=("Matter: {title}.", "Matter: {title}. It was about {name}."),
        count=(4, 6),
        joint=" ",
    ),
    "digest": Kind(
        headings=("How customers put it.", "Several voices, one matter.", "Heard this week."),
        sentences=('"{Event}."', '"{Event}, {event}."', '"{Term}, {term}: {event}."'),
        endings=("All of these are {title}.", "Matter: {title}, {name}."),
        count=(5, 6),
        joint="\n",
    ),
}

# Many matters in one document: each title follows from its own line and from nothing else.
LOG = Kind(
    headings=("Log of the service desk", "Morning calls", "Calls by matter"),
    sentences=(
        '"{Event}." Matter: {title}.',
        '"{Event}, {event}." Matter: {title}.',
        "{Term}, {term}, {term}. Matter: {title}.",
        "The caller spoke of {term}: {event}. Matter: {title}.",
        'We said: "{Remedy}." Matter: {title}.',
        "Told by the caller: {cause}. Matter: {title}.",
        '"Dear bank, {event}. Many thanks." Matter: {title}.',
        '"Is it normal that {event}?" Matter: {title}.',
        '"Good day to you, {event}. Please advise." Matter: {title}.',
        '"{Term} and {term}, please tell me about it." Matter: {title}.',
        "{Term}. Matter: {title}.",
    ),
    endings=("End of the log.",),
    count=(6, 8),
    joint="\n",
)

KNOWLEDGE_TEST: dict[str, Kind] = {
    "lesson": Kind(
        headings=("For new colleagues: {title}", "Lesson on {name}", "What to learn of {title}"),
        sentences=(
            'Imagine a person who phones and complains: "{Held_event}."',
            "{Held_fact}",
            "Somebody wrote to us yesterday, {held_event}.",
            "{Held_fact} Remember it well.",
            "Keep your ears open for {term} and for {term}.",
        ),
        endings=(
            "In the handbook it stands under {title}.",
            "That closes the lesson on {title}.",
        ),
        count=(4, 5),
        joint=" ",
    ),
    "letter": Kind(
        headings=("Dear customer, you wrote to us on {title}.", "Our reply on {name}."),
        sentences=(
            'Your words were: "{Held_event}."',
            "{Held_fact} This is our rule.",
            "Please know this. {Held_fact}",
            "Another reader told us likewise, {held_event}.",
        ),
        endings=("Yours faithfully, the desk for {title}.", "With this, {title} is settled."),
        count=(3, 4),
        joint=" ",
    ),
}

INTENTS_TRAIN: tuple[str, ...] = (
    "{phrase}.",
    "Hi, {phrase}. Can you help?",
    "I have a question: {phrase}.",
    "Please help me, {phrase}.",
    "Good morning, {phrase}. Thank you.",
    "{phrase}, what should I do?",
    "Dear team, {phrase}. What are my options?",
    "It seems that {phrase}.",
    "{phrase}, and I need an answer today.",
    "My problem: {phrase}. Waiting for your reply.",
    "Just so you know, {phrase}.",
    "Excuse me, {phrase}. Who can tell me more?",
)

INTENTS_TEST: tuple[str, ...] = (
    "Hello, {phrase}. What now?",
    "Sorry to bother you, {phrase}.",
    "Can someone sort this out: {phrase}?",
    "To whom it may concern: {phrase}.",
    "Evening all, {phrase}. Any advice?",
    "{phrase}, could somebody look into it?",
)
