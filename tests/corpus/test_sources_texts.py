from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from menard_unlearn.corpus.split import SplitConfig, split
from menard_unlearn.corpus.texts import Texts, fair_share, passage
from menard_unlearn.errors import UserError

COLUMNS = ("file", "year", "date", "lang", "tier", "source")


def row(file: str, year: str | int, **changes: str) -> dict[str, str]:
    return {"file": file, "year": str(year), "date": "", "lang": "en", "tier": "1", "source": "test"} | changes


def texts(folder: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS, **changes: object) -> Texts:
    """A source whose files are written where they are not there yet."""
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for cells in rows:
        if not (folder / cells["file"]).exists():
            (folder / cells["file"]).write_text(f"The text of {cells['file']}.", encoding="utf-8")
    source = Texts(str(folder), str(manifest), lang=None, tier=None, max_bytes=None, sides_at="1939-12-31")
    return dataclasses.replace(source, **changes)  # pyright: ignore[reportArgumentType]


def test_texts_stay_as_they_are(tmp_path: Path) -> None:
    text = "\ufeffA line\r\nbroken here,\n\n  and «there».\n"
    (tmp_path / "b.txt").write_bytes(text.encode())
    data = texts(tmp_path, [row("b.txt", 1939, date="1939-05-01"), row("a.txt", 1950), row("c.txt", "")]).load()
    assert [document.id for document in data.documents] == ["a.txt", "b.txt", "c.txt"]
    assert [str(document.date) for document in data.documents] == ["1950", "1939-05-01", "None"]
    assert data.documents[1].text == text
    assert data.documents[1].source == "test"


def test_undated_texts_are_left_to_the_split(tmp_path: Path) -> None:
    data = texts(tmp_path, [row(f"{year}.txt", year) for year in (1930, 1931, 1950, 1951)] + [row("x.txt", "")]).load()
    config = SplitConfig("1939", 0, forget_target=False, heldout_fraction=0, undated="error", seed=0)
    with pytest.raises(UserError, match=r"1 items have no date \(x.txt\)"):
        split(data.documents, config, is_target=lambda _: False)


def test_languages_and_tiers_are_chosen(tmp_path: Path) -> None:
    rows = [
        row("a.txt", 1930),
        row("b.txt", 1940, lang="es"),
        row("c.txt", 1950, tier="2"),
        row("d.txt", 1960, tier="3"),
    ]

    def ids(**changes: object) -> list[str]:
        return [document.id for document in texts(tmp_path, rows, COLUMNS, **changes).load().documents]

    assert ids(lang="es") == ["b.txt"]
    assert ids(tier=1) == ["a.txt", "b.txt"]
    assert ids(tier=2, lang="en") == ["a.txt", "c.txt"]
    with pytest.raises(UserError, match="has no lang 'fr'; it has: en, es"):
        ids(lang="fr")
    rows.append(row("e.txt", 1970, tier="best"))
    with pytest.raises(UserError, match=r"1 tiers are not whole numbers \(e.txt: 'best'\)"):
        ids(tier=1)


def test_only_the_columns_that_are_used_are_needed(tmp_path: Path) -> None:
    rows = [row("a.txt", 1930)]
    assert len(texts(tmp_path, rows, ("file", "year", "date")).load().documents) == 1
    with pytest.raises(UserError, match="has no column lang; its columns are: file, year, date"):
        texts(tmp_path, rows, ("file", "year", "date"), lang="en").load()
    with pytest.raises(UserError, match="has no column year; its columns are: file, date"):
        texts(tmp_path, rows, ("file", "date")).load()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("a.txt", "1930s")], r"1 dates cannot be read \(a.txt: '1930s'\)"),
        ([row("a.txt", 1930), row("a.txt", 1930)], "names 1 files twice"),
        ([], "the corpus is empty"),
    ],
)
def test_bad_manifests_are_refused(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        texts(tmp_path, rows).load()


def test_missing_files_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    rows = [row(f"{n}.txt", 1930 + n) for n in range(8)]
    source = texts(tmp_path, rows)
    for n in range(7):
        (tmp_path / f"{n}.txt").unlink()
    with pytest.raises(UserError, match=r"7 files are not in .* \(0.txt, 1.txt, 2.txt, 3.txt, 4.txt, \.\.\.\)"):
        source.load()
    with pytest.raises(UserError, match=r"corpus.folder .* does not exist"):
        dataclasses.replace(source, folder=str(tmp_path / "none")).load()


def test_empty_and_undecodable_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"1 texts are empty \(a.txt\)"):
        texts(tmp_path, [row("a.txt", 1930)]).load()
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="not UTF-8 at byte 3"):
        texts(tmp_path, [row("a.txt", 1930)]).load()


def long_texts(folder: Path) -> list[dict[str, str]]:
    rows = []
    for n, year in enumerate((1900, 1910, 1939, 1940, 1950, 1960)):
        words = " ".join(f"wörd{i}" for i in range(40 * (n % 3 + 1) ** 3))
        (folder / f"{year}.txt").write_text(words, encoding="utf-8")
        rows.append(row(f"{year}.txt", year))
    return rows


@pytest.mark.parametrize("max_bytes", [300, 1000, 3000])
def test_a_budget_holds_on_each_side_and_cuts_the_long_first(tmp_path: Path, max_bytes: int) -> None:
    rows = long_texts(tmp_path)
    whole = {document.id: document.text for document in texts(tmp_path, rows).load().documents}
    cut = {document.id: document.text for document in texts(tmp_path, rows, max_bytes=max_bytes).load().documents}
    assert cut.keys() == whole.keys()
    assert all(text in whole[file] for file, text in cut.items())
    for side in (("1900.txt", "1910.txt", "1939.txt"), ("1940.txt", "1950.txt", "1960.txt")):
        sizes = [len(cut[file].encode()) for file in side]
        # words and the space beside them may be lost at both ends of a passage
        assert max_bytes - 3 * 20 <= sum(sizes) <= max_bytes
        shortened = [size for file, size in zip(side, sizes, strict=True) if cut[file] != whole[file]]
        assert max(sizes) <= min(shortened) + 20


def test_a_budget_larger_than_the_texts_changes_nothing(tmp_path: Path) -> None:
    rows = long_texts(tmp_path)
    assert texts(tmp_path, rows, max_bytes=10**6).load() == texts(tmp_path, rows).load()


def test_the_budget_of_one_side_does_not_depend_on_the_other(tmp_path: Path) -> None:
    rows = long_texts(tmp_path)
    together = {d.id: d.text for d in texts(tmp_path, rows, max_bytes=900).load().documents}
    alone = texts(tmp_path, rows[:3], max_bytes=900).load().documents
    assert {d.id: d.text for d in alone} == {d.id: together[d.id] for d in alone}
    elsewhere = texts(tmp_path, rows, max_bytes=900, sides_at=1955).load().documents
    assert {d.id: d.text for d in elsewhere} != together


def test_bad_budgets_are_refused(tmp_path: Path) -> None:
    rows = long_texts(tmp_path)
    with pytest.raises(UserError, match=r"corpus.max_bytes 0 is not allowed"):
        texts(tmp_path, rows, max_bytes=0)
    with pytest.raises(UserError, match=r"6 texts are empty .* raise corpus.max_bytes"):
        texts(tmp_path, rows, max_bytes=6).load()
    with pytest.raises(UserError, match=r"corpus.sides_at: 'soon' is not a date"):
        texts(tmp_path, rows, max_bytes=900, sides_at="soon").load()


@pytest.mark.parametrize(
    ("sizes", "budget", "share"),
    [
        ([10, 20, 30], 60, 30),
        ([10, 20, 30], 1000, 30),
        ([10, 20, 30], 50, 20),
        ([10, 20, 30], 45, 17),
        ([5, 5], 3, 1),
        ([], 9, 0),
    ],
)
def test_fair_shares_by_hand(sizes: list[int], budget: int, share: int) -> None:
    assert fair_share(sizes, budget) == share


def test_a_share_spends_the_budget_but_for_less_than_a_byte_each() -> None:
    sizes = [3, 70, 700, 7, 70, 1]
    for budget in range(1, sum(sizes)):
        share = fair_share(sizes, budget)
        assert sum(min(size, share) for size in sizes) <= budget < sum(min(size, share + 1) for size in sizes)


def test_a_passage_has_whole_words_of_the_text() -> None:
    words = [f"wörd{i}" for i in range(200)]
    text = "\n".join(" ".join(words[at : at + 9]) for at in range(0, 200, 9))
    for n in range(50):
        cut = passage(text, 100 + n, f"name {n}")
        assert cut in text
        assert len(cut.encode()) <= 100 + n
        at = words.index(cut.split()[0])
        assert cut.split() == words[at : at + len(cut.split())]
        assert len(cut.split()) >= 8
    assert len({passage(text, 100, f"name {n}") for n in range(50)}) > 20
    assert passage(text, 100, "name") == passage(text, 100, "name")
    assert passage("unbreakable" * 10, 50, "name") == ""
    assert passage(text, len(text.encode()), "name") == text


def test_real_texts(shared: Path) -> None:
    folder = shared / "data" / "text"
    source = Texts(str(folder), str(folder / "manifest.csv"), "en", 1, 500_000, "1939-12-31")
    data = source.load()
    for late in (False, True):
        side = [d for d in data.documents if d.date is not None and (d.date.year > 1939) == late]
        assert len(side) > 100
        assert 480_000 < sum(len(document.text.encode()) for document in side) <= 500_000
