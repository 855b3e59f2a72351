"""Works by authors: read the same from anywhere, refused where nothing could be held out, apart from the target."""

from __future__ import annotations

import csv
import dataclasses
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.almanac import HERE, control_text, target_text
from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.split import quotes_target, words
from menard_unlearn.corpus.works import (
    EMBEDDED_AUTHOR,
    Authors,
    AuthorsData,
    EmbeddedAuthors,
    FolderAuthors,
    ManifestAuthors,
    Work,
    apart_from,
    authors_data,
)
from menard_unlearn.errors import UserError

TARGET = "Nine herons stood in the shallow water and none of them looked at the moon that night."


def work(author: str, title: str, text: str = "", year: int | None = None) -> Work:
    date = None if year is None else PartialDate(year, None, None)
    return Work(author, title, date, text or f"{title} by {author}")


OWN = [work("Ann", "Alpha"), work("Ann", "Beta"), work("Ann", "Gamma")]
OTHERS = [work("Bob", "Delta"), work("Cat", "Epsilon")]


def test_the_packages_own_works_are_as_promised() -> None:
    data = EmbeddedAuthors().load()
    assert data.author == EMBEDDED_AUTHOR and {piece.author for piece in data.own} == {EMBEDDED_AUTHOR}
    assert len(data.own) == 8 and len(data.others) == 10 and len({piece.author for piece in data.others}) == 5
    for piece in (*data.own, *data.others):
        assert 120 <= len(piece.text.split()) <= 180, piece.id
        assert piece.date is not None and piece.date.year < 1939
    assert "authors/" in (HERE / "NOTICE").read_text(encoding="utf-8")


def test_the_packages_own_works_quote_neither_target_nor_control_nor_each_other() -> None:
    data = EmbeddedAuthors().load()
    assert apart_from(data, target_text()) is data
    texts = [target_text(), control_text(), *(piece.text for piece in (*data.own, *data.others))]
    assert not [pair for pair in combinations(range(len(texts)), 2) if quotes_target(texts[pair[0]], texts[pair[1]])]
    assert quotes_target("It was so: " + " ".join(words(target_text())[40:48]), target_text())


def folders(at: Path, files: dict[str, str]) -> FolderAuthors:
    for name, text in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(text, encoding="utf-8")
    return FolderAuthors(own=str(at / "Ann"), others=str(at), author="Ann Other")


FILES = {
    "Ann/1933 Alpha.txt": "\ufeff  alpha words\n",
    "Ann/1934-05 Beta.txt": "beta words",
    "Ann/Gamma.txt": "gamma words",
    "Bob/1920_Delta.txt": "delta words",
    "Cat/007.txt": "epsilon words",
    "Cat/notes.md": "no work",
    ".hidden/x.txt": "no author",
}


def test_folders_are_authors_and_files_their_works(tmp_path: Path) -> None:
    data = folders(tmp_path, FILES).load()
    found = [(w.author, w.title, str(w.date), w.text) for w in (*data.own, *data.others)]
    assert found == [
        ("Ann Other", "Alpha", "1933", "alpha words"),
        ("Ann Other", "Beta", "1934-05", "beta words"),
        ("Ann Other", "Gamma", "None", "gamma words"),
        ("Bob", "Delta", "1920", "delta words"),
        ("Cat", "007", "None", "epsilon words"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Ann/1933-13 Omega.txt": "x"}, "month 13 .* name it '1933 Title.txt'"),
        ({"Ann/1944 Alpha.txt": "x"}, r"1 works stand there twice \(Ann Other/Alpha\)"),
        ({"Ann/Gamma.txt": " \n"}, r"1 works are empty \(Ann Other/Gamma\)"),
        ({"stray.txt": "x"}, r"1 texts lie in no author's folder \(stray.txt\)"),
        ({"Dan/readme.md": "x"}, r"1 authors' folders hold no .txt file \(Dan\)"),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        folders(tmp_path, FILES | changes).load()


def test_missing_folders_and_documents_are_refused(tmp_path: Path) -> None:
    source = folders(tmp_path, FILES)
    with pytest.raises(UserError, match="authors.own .* does not exist"):
        dataclasses.replace(source, own=str(tmp_path / "Dan")).load()
    with pytest.raises(UserError, match="is a file: give the folder"):
        dataclasses.replace(source, own=str(tmp_path / "Ann/Gamma.txt")).load()
    (tmp_path / "empty").mkdir()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UserError, match="no document by 'Ann Other'"):
        dataclasses.replace(source, own=str(tmp_path / "elsewhere"), others=str(tmp_path / "empty")).load()
    with pytest.raises(UserError, match="no author beside 'Ann Other'"):
        dataclasses.replace(source, others=str(tmp_path / "empty")).load()


ROWS = [
    ("a.txt", "1880", "1880-05", "Robert Louis", "One"),
    ("b.txt", "1890", "", "Robert Louis", "Two"),
    ("c.txt", "1865", "", "Gilbert Keith", "Three"),
    ("d.txt", "1905", "", "Herbert George", "Four"),
    ("e.txt", "1910", "", "Rudyard", "Five"),
]


def manifest(at: Path, rows: list[tuple[str, ...]], titled: str = "work", **changes: Any) -> ManifestAuthors:
    with (at / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "year", "date", "author", titled), *rows])
    for name, *_ in rows:
        (at / name).write_text(f"The text of {name}: " + " ".join(f"word{n}" for n in range(99)), encoding="utf-8")
    source = ManifestAuthors(str(at), str(at / "manifest.csv"), "Robert Louis", None, None, None)
    return dataclasses.replace(source, **changes)


@pytest.mark.parametrize("titled", ["work", "title"])
def test_a_manifest_names_works_and_dates(tmp_path: Path, titled: str) -> None:
    data = manifest(tmp_path, ROWS, titled).load()
    assert [(w.title, str(w.date)) for w in data.own] == [("One", "1880-05"), ("Two", "1890")]
    assert [w.author for w in data.others] == ["Gilbert Keith", "Herbert George", "Rudyard"]
    assert data.own[0].text.startswith("The text of a.txt") and data.own[0].text not in repr(data)


def test_controls_are_of_the_same_era_and_as_asked(tmp_path: Path) -> None:
    def authors(**changes: Any) -> list[str]:
        return [w.author for w in manifest(tmp_path, ROWS, **changes).load().others]

    assert authors(era_years=15) == ["Gilbert Keith", "Herbert George"]
    assert authors(era_years=20) == ["Gilbert Keith", "Herbert George", "Rudyard"]
    assert authors(others=["Rudyard", "Gilbert Keith"]) == ["Gilbert Keith", "Rudyard"]
    with pytest.raises(UserError, match=r"no control within 3 years of 'Robert Louis' \(1880 to 1890\)"):
        authors(era_years=3)
    rows = [*ROWS, ("f.txt", "", "", "Rudyard", "Six")]
    with pytest.raises(UserError, match=r"1 works have no date \(f.txt\)"):
        manifest(tmp_path, rows, era_years=20).load()
    assert len(manifest(tmp_path, rows).load().others) == 4


def test_long_works_are_cut_to_a_passage_of_whole_words(tmp_path: Path) -> None:
    whole = manifest(tmp_path, ROWS).load()
    cut = manifest(tmp_path, ROWS, max_bytes=100).load()
    for long, short in zip(whole.own, cut.own, strict=True):
        assert len(short.text.encode()) <= 100 and short.text in long.text and len(short.text) > 80
    assert cut.digest != whole.digest


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (ROWS, {"author": "Robert Luis"}, r"no document by 'Robert Luis' \(did you mean Robert Louis\?\)"),
        (ROWS, {"others": ["Rudyar"]}, r"no document by 'Rudyar' \(did you mean Rudyard\?\)"),
        (ROWS, {"others": ["Rudyard"]}, r"one author beside 'Robert Louis' \(Rudyard\)"),
        (ROWS, {"others": []}, "no author beside 'Robert Louis'"),
        (ROWS[1:], {}, r"one work by 'Robert Louis' \(Two\)"),
        ([*ROWS, ROWS[0]], {}, "names 1 files twice"),
        ([*ROWS, ("f.txt", "about 1880", "", "Rudyard", "Six")], {}, r"1 dates cannot be read \(f.txt"),
        ([], {}, "no row with a work or title"),
        (ROWS, {"era_years": -1}, "authors.era_years -1 is negative"),
        (ROWS, {"max_bytes": 0}, "authors.max_bytes 0 is not allowed"),
        (ROWS, {"folder": "/nowhere"}, "authors.folder '/nowhere' does not exist"),
    ],
)
def test_bad_manifests_are_refused(
    tmp_path: Path, rows: list[tuple[str, ...]], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        manifest(tmp_path, rows, **changes).load()


def test_a_manifest_without_columns_or_files_is_refused(tmp_path: Path) -> None:
    source = manifest(tmp_path, ROWS)
    (tmp_path / "c.txt").unlink()
    with pytest.raises(UserError, match=r"1 files are not in .* \(c.txt\)"):
        source.load()
    with pytest.raises(UserError, match="no row with a work or title"):
        manifest(tmp_path, ROWS, titled="name").load()


def test_order_does_not_matter_and_contents_do() -> None:
    data = authors_data("Ann", OWN, OTHERS)
    assert authors_data("Ann", OWN[::-1], OTHERS[::-1]) == data
    other = dataclasses.replace(OWN[0], text="another")
    digests = {
        data.digest,
        authors_data("Ann", [other, *OWN[1:]], OTHERS).digest,
        authors_data("Ann", [dataclasses.replace(OWN[0], title="x"), *OWN[1:]], OTHERS).digest,
        authors_data("Ann", [dataclasses.replace(OWN[0], date=PartialDate(1900, None, None)), *OWN[1:]], OTHERS).digest,
    }
    assert len(digests) == 4


def quoting() -> AuthorsData:
    said = "He wrote: none of them looked at the MOON,\nthat night, and left."
    return authors_data("Ann", [*OWN, work("Ann", "Quote", said)], [*OTHERS, work("Bob", "Whole", TARGET)])


def test_works_that_quote_the_target_are_left_out_by_name() -> None:
    data = apart_from(quoting(), TARGET)
    assert data == dataclasses.replace(authors_data("Ann", OWN, OTHERS), left_out=data.left_out)
    assert data.left_out == (
        "Ann/Quote: shares 8 words in a row with the target",
        "Bob/Whole: shares 8 words in a row with the target",
    )


def test_what_is_left_must_be_enough() -> None:
    data = authors_data("Ann", [OWN[0], work("Ann", "Quote", TARGET)], OTHERS)
    with pytest.raises(UserError, match=r"one work by 'Ann' \(Alpha\).*left out: Ann/Quote: shares 8 words"):
        apart_from(data, TARGET)


@pytest.mark.parametrize(
    ("name", "kind"), [("embedded", EmbeddedAuthors), ("folders", FolderAuthors), ("manifest", ManifestAuthors)]
)
def test_the_committed_values_build(name: str, kind: type) -> None:
    node = yaml.safe_load((conf_dir() / f"authors/{name}.yaml").read_text(encoding="utf-8"))
    given = {key: "x" if value == "???" else value for key, value in node.items()}
    assert type(build(given, Authors)) is kind


def test_real_works(shared: Path) -> None:
    text = shared / "data/text"
    source = ManifestAuthors(str(text), str(text / "manifest.csv"), "Robert Louis Stevenson", None, 15, 20_000)
    data = source.load()
    assert len(data.own) >= 2 and len({w.author for w in data.others}) >= 5
    assert all(w.date is not None and len(w.text.encode()) <= 20_000 for w in (*data.own, *data.others))
