"""Marks of Markdown and HTML inside a line, and the front matter of a page."""

from __future__ import annotations

import pytest

from famcli.text.markup import front_matter, without_marks


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('1. <span class="header_2" id="1">Service</span>', "1. Service"),
        ("<code>x</code><br><br> <b>This is bold.", "x This is bold."),
        ("See [the guide](https://example.org/a) or ![a cat](cat.png).", "See the guide or a cat."),
        ("**Quoted keys** follow the same rules.", "Quoted keys follow the same rules."),
        ("<!-- a note -->Text <IMG src='a.png' alt='b'/>ends.", "Text ends."),
        (
            "Software&mdash;so &quot;free&quot; &amp; open&#8212;is used.",
            'Software\u2014so "free" & open\u2014is used.',
        ),
        (
            "It is *never* free, _no exceptions_, see **[the *long* list](/a)**.",
            "It is never free, no exceptions, see the long list.",
        ),
        ("__Note:__ it is __very important__, __Always__.", "Note: it is very important, Always."),
        ("`__Code__` and __FILE__ stay, a__b__c too", "`__Code__` and __FILE__ stay, a__b__c too"),
        (r"**Jerod:** \[14:46\] So?", "Jerod: [14:46] So?"),
        (
            "See [the list][list] and [`--hidden`](#hidden) with `**/*.py <b>`.",
            "See the list and `--hidden` with `**/*.py <b>`.",
        ),
        # Emphasis that takes several lines, or goes on in another sentence.
        ("He said _that the\nwhole thing_ was *a\nlie*.", "He said that the\nwhole thing was a\nlie."),
        ("**Note: do this first.", "Note: do this first."),
        ("> **Use the bold text that is cut.", "> Use the bold text that is cut."),
        ("That ends here** and goes on.", "That ends here and goes on."),
        ("\u201c_It was so.", "\u201cIt was so."),
        ("Quite so._\u201d", "Quite so.\u201d"),
        ("***Both*** of them", "Both of them"),
        ("Pass **kwargs to foo_ and _private names, f(**a, **b), 2**3", None),
        ("All below src/** counts.", None),
        ("<*>:<*> error, 5 *> 3", None),
        # None of these is a mark.
        (
            "All *.py and *.md files, a*b*c, x[0][1], snake_case_name, * an item",
            "All *.py and *.md files, a*b*c, x[0][1], snake_case_name, * an item",
        ),
        ("AT&T sells R&D; &nosuchentity; stays", "AT&T sells R&D; &nosuchentity; stays"),
        ("A List<String> holds a < b and c > d.", "A List<String> holds a < b and c > d."),
        ("2 ** 3 ** 4 and __init__ and snake__case__name", "2 ** 3 ** 4 and __init__ and snake__case__name"),
        ("f(x)[0](y) costs <5 and >3", "f(x)[0](y) costs <5 and >3"),
    ],
)
def test_without_marks(text: str, shown: str | None) -> None:
    assert without_marks(text) == (text if shown is None else shown)


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_front_matter(line: str) -> None:
    page = line.join(["---", "title: 'The terms: of it'", "versions:", "  fpt: '*'", "---", "", "# One", "---", ""])
    size, title = front_matter(page)
    assert (page[:size], title) == (page[: page.index("# One") - len(line)], "The terms: of it")
    assert front_matter(f'+++{line}title = "A page"{line}+++{line}Text') == (
        len(f'+++{line}title = "A page"{line}+++{line}'),
        "A page",
    )
    assert front_matter(f'---{line}"@a/b.js": minor{line}---{line}Text')[0] > 0
    assert front_matter(f"---{line}title: ''{line}---{line}")[1] is None
    assert front_matter(f"---{line}date: 2020{line}---{line}") == (len(f"---{line}date: 2020{line}---{line}"), None)


@pytest.mark.parametrize(
    "text", ["", "---\n", "---\nA break, then prose.\n---\nMore.", "Text\n---\na: b\n---\n", "---\na: b\n"]
)
def test_what_is_no_front_matter(text: str) -> None:
    assert front_matter(text) == (0, None)
