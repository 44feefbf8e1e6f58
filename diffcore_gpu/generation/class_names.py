"""From the name of a class folder to words for a prompt."""

from __future__ import annotations

import re

# The 024. of 024.Red_faced_Cormorant, 103_ or 07-; not the 8 of a digit, the 18_ of 18_wheeler, the 747- of a 747-SP.
_ORDINAL = re.compile(r"^(?:\d+\.|\d{3,}_|0\d*[_\- ])[._\- ]*(?=[^\W\d_])")
_SYNSET = re.compile(r"^n\d{8}[._\- ]+(?=\S)")
_CAMEL = re.compile(r"(?<=[a-z])(?<!\bMc)(?=[A-Z])")
_YEAR = re.compile(r"\b(19|20)\d\d\b")

# By sound, not by letter. Names of classes are nouns, so these two short lists cover nearly all of what is met.
_CONSONANT_SOUND = re.compile(r"^(uni(?!n|m)|eu|ewe|use|usu|uten|uku|uran|urin|ufo|one\b|once|ouija)", re.IGNORECASE)
_VOWEL_SOUND = re.compile(r"^(hour|honest|honou?r|heir|8|11\b|11[,.]|18\b|18[,.])", re.IGNORECASE)
_SPELLED_OUT = re.compile(r"^(?:[A-Z](?:\b|[A-Z\d])|[a-z]-)")
_VOWEL_LETTER_NAMES = "AEFHILMNORSX"
# Read as a word, whatever their capitals: “a NASA jet” but “an FBI van” is the rule for all others.
_MIN_WORD = 4


def clean_label(name: str) -> str:
    """The words in the name of a class folder.

    A leading number or WordNet id goes (`024.Red_faced_Cormorant` → “red faced cormorant”, `n02085620-Chihuahua` →
    “chihuahua”), underscores, hyphens and camel case become spaces, and capitals small letters. A name that has a year
    keeps its capitals, because it is that of a make (`Acura RL Sedan 2012`); so does a word that is all capitals, or
    mixes letters and digits (`DC-10`, `BMW`). Digits stay.
    """
    text = _SYNSET.sub("", name.strip())
    text = _ORDINAL.sub("", text)
    text = " ".join(re.sub(r"[_\s]+", " ", _CAMEL.sub(" ", text)).split())
    if _YEAR.search(text):
        return text or name
    return " ".join(_clean_word(word) for word in text.split()) or name


def _clean_word(word: str) -> str:
    if any(character.isdigit() for character in word):
        return word  # a type of aircraft
    parts = word.split("-")
    if len(parts[0]) == 1 and len(parts) > 1:
        return word  # a T-shirt, an X-ray
    return " ".join(part if len(part) > 1 and part.isupper() else part.lower() for part in parts if part)


def article(label: str) -> str:
    """“a” or “an” by the sound of the label's beginning: a unicorn, an hour, an 8, an 11, an 18, an MD-80."""
    if _VOWEL_SOUND.match(label):
        return "an"
    if _CONSONANT_SOUND.match(label):
        return "a"
    first = label.split()[0] if label.split() else ""
    if _SPELLED_OUT.match(first) and not (first.isalpha() and len(first) >= _MIN_WORD):
        return "an" if first[0].upper() in _VOWEL_LETTER_NAMES else "a"
    return "an" if label[:1].lower() in tuple("aeiouáàâäéèêíìîóòôöúùû") else "a"
