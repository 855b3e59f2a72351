"""One notion of a secret for what is refused, hidden and left out."""

from __future__ import annotations

import pytest

from menard_unlearn import cli
from menard_unlearn.errors import UserError
from menard_unlearn.report.privacy import settings_of
from menard_unlearn.tracking.wandb_record import without_secrets

SECRETS = {
    "wandb_api_key": "abc",
    "passwd": "abc",
    "path": "hf_abcdefghijklmnopqrstuvwxyz",
    "setup": "export WANDB_API_KEY=abc",
}
HARMLESS = {"pad_token": "<pad>", "max_tokens": 3, "setup": "export HF_TOKEN=$MY_TOKEN HF_HOME=/scratch"}


@pytest.mark.parametrize(("key", "value"), SECRETS.items())
def test_a_secret_is_refused_hidden_and_left_out(key: str, value: str) -> None:
    with pytest.raises(UserError, match="looks like a secret"):
        cli._refuse_secret(f"+model.{key}={value}")
    assert value.rpartition("=")[2] not in str(without_secrets({"model": {key: [value]}}))
    assert settings_of({"model": {key: value}}) == {}


@pytest.mark.parametrize(("key", "value"), HARMLESS.items())
def test_what_is_none_stays(key: str, value: object) -> None:
    cli._refuse_secret(f"model.{key}={value}")
    assert without_secrets({"model": {key: value}}) == {"model": {key: value}}
    assert settings_of({"model": {key: value}}) == {f"model.{key}": value}
