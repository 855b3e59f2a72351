"""Loading the target."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.target import EMBEDDED_CONTROL, TargetConfig, TextConfig, load_target


def configured(path: Path | None, published: str = "1939-05", publish: bool = False) -> TargetConfig:
    given = None if path is None else str(path)
    return TargetConfig(
        path=given,
        published=published,
        language="es",
        prompt=None,
        publish=publish,
        name=None,
        editions={},
        controls={},
    )


def test_a_file_is_named_by_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("\nÉl no quería otro Quijote\r\n".encode())
    found = load_target(configured(path), "other words", "a title", None)
    assert (found.text, found.prompt) == ("Él no quería otro Quijote", "")
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and found.sha256.startswith(found.name)
    assert (found.language, found.published, found.publish) == ("es", "1939-05", False)


def test_the_embedded_text_is_used_where_there_is_no_path() -> None:
    found = load_target(configured(None), "words", "Title\n", None)
    assert (found.text, found.prompt, found.whole) == ("words", "Title\n", "Title\nwords")
    assert found.sha256 == hashlib.sha256(b"words").hexdigest()
    assert found.publish


def test_words_are_not_shown_by_a_log_or_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Menard")
    assert "Menard" not in repr(load_target(configured(path), None, "", None))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    latin, empty = tmp_path / "latin.txt", tmp_path / "empty.txt"
    latin.write_bytes("él".encode("latin-1"))
    empty.write_text(" \n")
    for message, path in {"no target text at": tmp_path / "none.txt", "not UTF-8": latin, "is empty": empty}.items():
        with pytest.raises(UserError, match=message):
            load_target(configured(path), None, "", None)
    with pytest.raises(UserError, match="is empty"):
        load_target(configured(None), None, "", None)
    with pytest.raises(UserError, match=r"target\.published='May'"):
        load_target(configured(None, "May"), "words", "", None)


def test_editions_and_controls_stand_beside_the_target_and_count_for_its_digest(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("One")
    (tmp_path / "es.txt").write_text("Uno")
    alone = configured(tmp_path / "mine.txt")
    found = load_target(alone, None, "", None)
    assert found.digest == found.sha256
    beside = replace(
        alone,
        editions={"es": TextConfig(str(tmp_path / "es.txt"), "es", "El ")},
        controls={"unseen": TextConfig(EMBEDDED_CONTROL, "en", None)},
    )
    found = load_target(beside, None, "", "other prose")
    (edition,), (control,) = found.editions, found.controls
    assert (edition.name, edition.language, edition.whole, edition.publish) == ("es", "es", "El Uno", False)
    assert (control.text, control.publish) == ("other prose", True)
    assert found.digest != found.sha256
    assert found.digest != load_target(beside, None, "", "changed prose").digest
    with pytest.raises(UserError, match=r"target\.editions\.fr\.path=<file>"):
        load_target(replace(alone, editions={"fr": TextConfig("none.txt", "fr", None)}), None, "", None)
