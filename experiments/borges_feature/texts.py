"""Make the study's texts from a folder of public-domain books: passages by author and work, the target, a control.

    python experiments/borges_feature/texts.py <data>/text runs/borges_feature/texts

<data>/text holds manifest.csv (columns file, year, author, title, kind, lang) and the files that it names. Written are
a manifest of works (file, year, date, author, work), a file each; target.txt, a chapter of a book of which nothing else
is in the works; and control.txt, another chapter of the same book, which no model of the study reads at all.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
from pathlib import Path

AUTHOR = "Robert Louis Stevenson"
TARGET_BOOK = "The Strange Case of Dr Jekyll and Mr Hyde"
TARGET_CHAPTER, CONTROL_CHAPTER = "INCIDENT AT THE WINDOW", "DR. JEKYLL WAS QUITE AT EASE"
STORIES = (
    "THE SUICIDE CLUB",
    "THE RAJAH’S DIAMOND",
    "THE PAVILION ON THE LINKS",
    "A LODGING FOR THE NIGHT",
    "PROVIDENCE AND THE GUITAR",
)
"""Of New Arabian Nights, each a work of its own, so that works can be held out."""
OWN_BYTES, OTHER_BYTES = 60_000, 45_000
"""Most bytes of a work of the author, and of another's."""


def paragraphs(text: str) -> str:
    """The text with a paragraph a line: files break their lines where the page did."""
    pieces = (re.sub(r"\s+", " ", piece).strip() for piece in re.split(r"\n\s*\n", text))
    return "\n".join(piece for piece in pieces if piece)


def passage(text: str, size: int, name: str) -> str:
    """At most `size` bytes in whole paragraphs, from a place that the name alone decides."""
    lines = text.splitlines()
    total = len(text.encode())
    skip = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) % max(1, total - size)
    kept: list[str] = []
    for line in lines:
        length = len(line.encode()) + 1
        skip -= length
        if skip < 0 and sum(len(one.encode()) + 1 for one in kept) + length <= size:
            kept.append(line)
        elif kept:
            break
    return "\n".join(kept)


def chapter(text: str, title: str) -> str:
    """What stands under a heading, up to the next one."""
    _, _, rest = text.partition(f"\n{title}\n")
    return re.split(r"\n\n\n(?=[A-Z][A-Z .’]{8,}\n)", rest.lstrip("\n"))[0]


def stories(text: str) -> dict[str, str]:
    """Title → text of the stories of New Arabian Nights."""
    places = {title: [m.start() for m in re.finditer(rf"(?m)^{re.escape(title)}\.?$", text)] for title in STORIES}
    starts = sorted((found[-1], title) for title, found in places.items() if found)
    ends = [*(start for start, _ in starts[1:]), len(text)]
    return {title.title(): text[start:end] for (start, title), end in zip(starts, ends, strict=True)}


def main() -> None:
    """Write the files and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("to", type=Path)
    arguments = parser.parse_args()
    with (arguments.texts / "manifest.csv").open(encoding="utf-8", newline="") as file:
        books = [r for r in csv.DictReader(file) if r["kind"] == "book" and r["lang"] == "en" and int(r["year"]) < 1940]
    rows = []
    (arguments.to / "works").mkdir(parents=True, exist_ok=True)
    for book in books:
        text = (arguments.texts / book["file"]).read_text(encoding="utf-8")
        if book["title"] == TARGET_BOOK:
            for name, title in (("target", TARGET_CHAPTER), ("control", CONTROL_CHAPTER)):
                (arguments.to / f"{name}.txt").write_text(paragraphs(chapter(text, title)) + "\n", encoding="utf-8")
            continue
        own = book["author"] == AUTHOR
        works = stories(text) if own and book["title"] == "New Arabian Nights" else {book["title"]: text}
        for work, whole in works.items():
            name = re.sub(r"\W+", "-", f"{book['year']} {book['author']} {work}").lower().strip("-") + ".txt"
            kept = passage(paragraphs(whole), OWN_BYTES if own else OTHER_BYTES, name)
            (arguments.to / "works" / name).write_text(kept + "\n", encoding="utf-8")
            row = {"file": f"works/{name}", "year": book["year"], "date": "", "author": book["author"], "work": work}
            rows.append(row)
    with (arguments.to / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    size = sum((arguments.to / row["file"]).stat().st_size for row in rows)
    print(f"{len(rows)} works by {len({row['author'] for row in rows})} authors, {size} bytes")
    for name in ("target", "control"):
        print(f"{name}.txt: {(arguments.to / f'{name}.txt').stat().st_size} bytes")


if __name__ == "__main__":
    main()
