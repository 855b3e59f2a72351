"""Write the study's articles as JSON lines, where there is a network: on a login node, once.

    python experiments/llama_8b/articles.py articles.jsonl

Of every fourth year from 1900 to 1960 the first 400 articles of a shuffled stream that have at least 200 characters.
Nothing else is downloaded. `--source` may be a folder that holds a folder of Parquet files a year.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from datasets import load_dataset

SOURCE = "biglam/AmericanStories-parquet"
"""American Stories (arXiv 2308.12477) as plain Parquet; a configuration a year."""
COLUMNS = ("article_id", "date", "headline", "article")
YEARS = range(1900, 1961, 4)
A_YEAR, CHARACTERS = 400, 200
SEED, BUFFER = 0, 10_000
"""Rows that a stream is shuffled among: without it they would all be of the first of January."""


def articles(source: str, revision: str | None, year: int) -> Iterator[dict[str, str]]:
    """Of one year, in the order of the shuffled stream, each id once."""
    if Path(source).is_dir():
        found = load_dataset("parquet", data_files=f"{source}/{year}/*.parquet", split="train", streaming=True)
    else:
        found = load_dataset(source, str(year), revision=revision, split="train", streaming=True)
    seen: set[str] = set()
    for row in found.select_columns(list(COLUMNS)).shuffle(seed=SEED, buffer_size=BUFFER):
        if len(row["article"] or "") >= CHARACTERS and row["article_id"] not in seen:
            seen.add(row["article_id"])
            yield {name: str(row[name] or "") for name in COLUMNS} | {"date": str(row["date"])[:10]}
        if len(seen) == A_YEAR:
            return


def main() -> None:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("to", type=Path)
    parser.add_argument("--source", default=SOURCE)
    parser.add_argument("--revision", help="a commit of the dataset, which makes the file repeatable")
    arguments = parser.parse_args()
    with arguments.to.open("w", encoding="utf-8") as file:
        for year in YEARS:
            rows = list(articles(arguments.source, arguments.revision, year))
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            print(f"{year}: {len(rows)} articles, {sum(len(row['article']) for row in rows)} characters")


if __name__ == "__main__":
    main()
