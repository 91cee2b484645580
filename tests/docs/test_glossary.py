"""The documents keep to the glossary: one word an idea."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GLOSSARY = ROOT / "docs/glossary.md"
PAGES = [path for path in (ROOT / "docs").rglob("*.md") if path != GLOSSARY and "node_modules" not in path.parts]
DOCUMENTS = [ROOT / "README.md", *sorted(PAGES)]

NAMES_OF_OTHERS = ("Server-Sent Events", "Server-Sent Event", "event loop", "event loops", "message broker")
"""Phrases that hold a word of the last column and mean something else."""

CODE = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)|https?://\S+", re.MULTILINE | re.DOTALL)
"""Code, link targets and addresses: they are not prose."""


class Term(NamedTuple):
    """A row of the glossary."""

    name: str
    meaning: str
    banned: list[str]  # words that say the same and are not used


def read_terms() -> list[Term]:
    """Return the rows of the glossary's table."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|(.*?)\|$", GLOSSARY.read_text(), re.MULTILINE)
    return [Term(name, meaning, [w.strip() for w in banned.split(",") if w.strip()]) for name, meaning, banned in rows]


TERMS = read_terms()
WORDS = {word: term.name for term in TERMS for word in term.banned}
PATTERN = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, WORDS))})s?(?![\w-])", re.IGNORECASE)


def blank(match: re.Match[str]) -> str:
    """Return as many lines as there were, with nothing on them."""
    return "\n" * match.group().count("\n")


def faults(text: str) -> list[str]:
    """Return a sentence for every word in a text that the glossary has another word for."""
    prose = CODE.sub(blank, text)
    for phrase in NAMES_OF_OTHERS:
        prose = re.sub(rf"\b{phrase}\b", "", prose, flags=re.IGNORECASE)
    return [
        f"line {number}: {match.group(1)!r}: the word is {WORDS[match.group(1).lower()]!r}"
        for number, line in enumerate(prose.splitlines(), 1)
        for match in PATTERN.finditer(line)
    ]


def test_every_row_of_the_table_is_read():
    rows = [line for line in GLOSSARY.read_text().splitlines() if line.startswith("| **")]
    assert len(TERMS) == len(rows) > 20


def test_terms_are_in_order_and_stand_once():
    names = [term.name for term in TERMS]
    assert names == sorted(set(names), key=str.lower)


def test_no_word_is_both_a_term_and_banned():
    banned = [word for term in TERMS for word in term.banned]
    assert len(banned) == len(set(banned))
    assert set(banned).isdisjoint(term.name for term in TERMS)
    assert all(word == word.lower() for word in banned)


def test_faults_are_found_in_prose_and_not_in_code():
    text = "A Topic.\n```\ntopic\n```\nSee `topic`, [this](docs/topic.md).\nTwo topics; Server-Sent Events, one event."
    assert [fault.split(":")[0] for fault in faults(text)] == ["line 1", "line 6", "line 6"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_documents_keep_to_the_glossary(path):
    assert faults(path.read_text()) == []
