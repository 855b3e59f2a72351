"""Write rehearsal.jsonl: articles in the layout of the study's dataset, made of the embedded facts, one a year.

python experiments/llama_8b/rehearsal.py
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from menard_unlearn.corpus.almanac import Almanac
from menard_unlearn.corpus.statements import Templates, WordingConfig, statements

A_YEAR = 3
"""Facts an article: enough for a few sentences."""
HERE = Path(__file__).parent


def main() -> None:
    """The same file each time."""
    corpus = Almanac().load()
    wording = WordingConfig(heldout_silent=2, heldout_stated=1, seed=0)
    by_year: dict[int, dict[str, str]] = defaultdict(dict)
    for statement in statements(corpus.facts, corpus.templates or Templates.read(), wording).trained:
        by_year[statement.fact.date.year].setdefault(statement.fact.id, statement.text)
    lines = []
    for year, texts in sorted(by_year.items()):
        article = " ".join(text for _, text in sorted(texts.items())[:A_YEAR])
        row = {"article_id": f"article-{year}", "date": f"{year}-12-31", "headline": "", "article": article}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    (HERE / "rehearsal.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
