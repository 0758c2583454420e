"""Nothing that a stranger says reaches a terminal as it is, or fills it."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from exporter.probes.printable import MAX_TEXT, printable


@given(st.text(st.characters(), max_size=2 * MAX_TEXT))
def test_no_control_character_gets_through_and_nothing_is_long(text: str) -> None:
    """Escape sequences, line breaks, what changes the direction of writing."""
    shown = printable(text)

    assert len(shown) <= MAX_TEXT
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_what_can_be_read_stays_as_it_is() -> None:
    assert printable("CN=почта, O=Contoso") == "CN=почта, O=Contoso"
    assert printable("a\x1b]0;title\x07\r\nb") == "a\\x1b]0;title\\x07\\x0d\\x0ab"


def test_what_was_cut_says_so() -> None:
    assert printable("x" * (MAX_TEXT + 1)) == "x" * (MAX_TEXT - 1) + "…"
    assert printable("x" * MAX_TEXT) == "x" * MAX_TEXT
