"""What a question asks for, and which texts hold it."""

from __future__ import annotations

import pytest

from famcli.tasks.ask.expecting import asked_noun, asks_term, expected, holds, is_count, is_stated, lacks, numbers_in


@pytest.mark.parametrize(
    ("question", "kind", "answer", "other"),
    [
        ("When did the harbour open?", "time", "It opened in 1887.", "It opened to ships of all sizes."),
        ("In which year was it built?", "time", "Built 1901 by the town.", "Built by the town."),
        ("How many boats are there?", "number", "There are twelve boats.", "There are boats."),
        ("How long is the leave?", "duration", "Up to 16 weeks.", "Up to 16 managers."),
        ("How much does it cost?", "money", "It is $7 each.", "It has 7 rooms."),
        ("How hot is the oven?", "temperature", "At 475 degrees F.", "For 475 minutes."),
        ("How often are they counted?", "frequency", "They are counted every year.", "They are counted by 12 men."),
        ("Where do I report it?", "place", "Reports go to the office in Oslo.", "It is reported by hand."),
        ("Why was it taken out?", "reason", "It went because it was broken.", "It was taken out."),
        ("Who keeps the lamp?", "name", "The lamp is kept by Ottilie.", "The lamp is kept by somebody."),
        ("Which flag turns colours off?", "code", "Use --no-color for that.", "Colours can be turned off."),
        ("Who is Syme?", "meaning", "Gabriel Syme was a poet.", "Syme went home."),
        (
            "What is a snapshot?",
            "meaning",
            'What it has then is called a "snapshot" here.',
            "Make a snapshot each day.",
        ),
        ("What does CSI stand for?", "meaning", "CSI (the 8-bit code) is an introducer.", "It starts with CSI."),
        ("Who is Syme?", "meaning", "In came the poet Syme.", "In came Syme and the others."),
        ("Who is Syme?", "meaning", "Syme, an angry man, rose.", "Syme was walking home."),
        ("Who is Syme?", "meaning", "Syme, chief of police, rose.", "said Syme, with gestures of explanation."),
        ("Who is Syme?", "meaning", "My old friend Syme rose.", "All his eyes darted towards Syme."),
        ("Who is Syme?", "meaning", "Syme was really a poet.", "Syme was scarcely surprised to see that."),
        ("Who is Gabriel Syme?", "meaning", "Inspector Syme laughed.", "Syme is in the park."),
        ("What is Khechari?", "meaning", "Khechari is a thing where you cut it.", "Khechari is read by all."),
        ("Which function is called when it ends?", "code", "It is called `drop`.", "It is called at the end."),
        ("What does slurp do?", "meaning", "--slurp / -s: Instead of running it.", "With --slurp it is passed."),
        ("Who is Weena?", "meaning", "found that her name was\nWeena, which", "But Weena became pensive."),
        ("Who is the judge?", "name", "The judge is Otto Brandt.", "The judge is asleep."),
        ("Which version is needed?", "version", "It needs tmux 3.3 or later.", "It takes 70% of the screen."),
        ("When was the module removed?", "time", "3.13\n----\n", "It was removed from the main branch."),
        (
            "When was the lamp deprecated?",
            "time",
            "Deprecated since Python 3.6.",
            "Removed, with others, from Boat 3.0.",
        ),
        ("When was Atlanta taken?", "time", "The 1st of September saw it fall.", "It fell as all the others had."),
        ("Where is the job?", "place", "One vacancy - Buffalo, NY", "One vacancy, full time"),
        ("How many boats have 3 masts?", "number", "Of these, 7 do.", "Boats with 3 masts are rare."),
    ],
)
def test_a_text_holds_what_is_asked_for(question: str, kind: str, answer: str, other: str) -> None:
    found = expected(question)
    assert found == kind
    assert holds(found, answer, question)
    assert not holds(found, other, question)


NAMES_VERSION = ["What did version 2.29.4 fix?", "What changed in version 3?"]


@pytest.mark.parametrize(
    "question", ["Is the sea salt?", "Wo liegt der Schl\u00fcssel?", "How do I start?", *NAMES_VERSION]
)
def test_other_questions_expect_nothing_in_particular(question: str) -> None:
    assert expected(question) is None


@pytest.mark.parametrize(
    ("question", "answer", "other"),
    [
        ("How many boats are there?", "There are twelve boats.", "The boats are old."),
        ("In which year did it open?", "It opened in 1887.", "It opened on a Sunday, after twelve years."),
        ("When was it opened?", "It was opened in May 1887.", "It was opened by the mayor."),
        ("How much does a boat cost?", "A boat is $40.", "Boats are dear."),
        ("What is the mill's revenue?", "It takes in 3 million.", "The mill takes in wheat."),
        ("What is the largest size allowed?", "Up to 40 feet.", "Boats may be of any size."),
        (
            "What is the name of the overseer?",
            'She said: "You do not know me! I am Katrine Dulany, and my father was overseer."',
            'She said: "You do not know me! My father was overseer."',
        ),
        ("What is the captain's real name?", "He was born Otto Brandt.", "I think captain is what he is called."),
        (
            "What is the name of the judge?",
            "He is called `otto`.",
            'When I had ended I said, "This is the judge whom I accuse, and I call upon him."',
        ),
        ("How many boxes were sent?", "He sent 40 in two weeks.", "2. Boxes take 90 days."),
        ("Which version is needed?", "It needs 3.2 or later.", "One version is as good as another."),
        ("When is the next meeting?", "It is on March 3.", "It will be a video conference."),
        ("How many people work there?", "There are 40.", "They [work](https://example.org/2014/07) in public."),
        ("Which release is it?", "It is 8.0.", "A new one."),
        ("How many chapters does the book have?", "It has 12 chapters.", "Chapter 3 has 12 pages."),
    ],
)
def test_what_lacks_the_thing_that_is_asked_for(question: str, answer: str, other: str) -> None:
    assert not lacks(question, answer)
    assert lacks(question, other)


@pytest.mark.parametrize("question", ["When may I leave?", "Who keeps the lamp?", "Is it free?", "How do I start?"])
def test_what_may_be_said_in_many_ways_is_never_lacking(question: str) -> None:
    assert not lacks(question, "As it is written.")


def test_counts_over_a_document_are_told_from_figures_in_it() -> None:
    for question in (
        "How many times is Ahab mentioned?",
        "How often does the whale appear?",
        "How many chapters are there?",
    ):
        assert is_count(question)
    for question in ("How many boats are there?", "How often are they counted?"):
        assert not is_count(question)


def test_what_is_counted_and_whose_role_is_asked_for_are_told() -> None:
    assert asked_noun("How many calories does it have?") == "calories"
    assert asked_noun("Who is the mayor of the town?") == "mayor"
    for question in ("How many people does it serve?", "What is it?", "Who is the man that came?"):
        assert asked_noun(question) is None


def test_what_a_word_means_no_other_word_tells() -> None:
    for question in ("What is corepack?", "What is a snapshot?", "What does slurp do?"):
        assert asks_term(question)
    for question in (
        "What is the price?",
        "How many boats are there?",
        "What is it?",
        "What is deep learning good for?",
    ):
        assert not asks_term(question)


def test_numbers_are_whole() -> None:
    assert numbers_in("PRIORITY 1, 12,500 boats, 3.5 m, version 15.0.0") == {"1", "12500", "3.5", "15.0.0"}
    # The day of a date is no number of its own, its year is.
    assert {"16", "04"}.isdisjoint(numbers_in("released on 2019-04-16"))
    assert "2019" in numbers_in("released on 2019-04-16")


@pytest.mark.parametrize(
    ("question", "text", "stated"),
    [
        ("Who is the captain of the Pequod?", "Supposing it be the captain of the Pequod, what then?", False),
        ("Who is the captain of the Pequod?", "Is this the Captain of the Pequod?", False),
        ("Who is the captain of the Pequod?", "Ahab was the captain of the Pequod.", True),
        ("Who is the captain of the Pequod?", "Ahab, captain of the Pequod, came.", True),
        ("Who is the captain of the Pequod?", "The captain of the Pequod, Ahab, came.", True),
        ("Who is the captain of the Pequod?", "Captain Ahab stood there.", False),
        ("Who is the captain of the Pequod?", "Mayhew, her captain, feared the Pequod.", False),
        ("Who is the captain of the Pequod?", "The Pequod's captain was Ahab.", True),
        ("Who is the chair of the TSC?", "Chair: Ann Bell", True),
        ("Who is the chair of the TSC?", "Ann Bell is the chair.", True),
        ("Where was Queequeg born?", "Queequeg here is a born member of the First Church.", False),
        ("Where was Queequeg born?", "He was born on an island.", True),
        ("Where was Queequeg born?", "I was a good Christian, born and bred in the bosom of the Church.", False),
        ("Where was Queequeg born?", "Queequeg, they say, was born far away in Rokovoko.", True),
        # Other questions are not judged.
        ("Where is the Pequod?", "The Pequod sails.", True),
        ("Who is Ahab?", "It is Ahab.", True),
    ],
)
def test_a_role_needs_a_name_and_a_birth_a_place(question: str, text: str, stated: bool) -> None:
    assert is_stated(question, text) == stated
