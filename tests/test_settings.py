"""Settings come from the environment alone, and every fault is named at once, without its content (spec 7)."""

from __future__ import annotations

import json
import logging

import pytest

from mpesa_sync.errors import ConfigurationError
from mpesa_sync.secret import Secret
from mpesa_sync.settings import DOCUMENTED, Settings

KEY = "k" * 32
URL = "postgresql://staff:hunter2@db.example.com:5432/shop"


def _faults(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        Settings.load(environ)
    return refused.value.faults


def test_an_empty_environment_means_defaults() -> None:
    """Spec 7: nothing is required; what is not said is None, for the program to decide."""
    assert Settings.load({}) == Settings()


def test_every_setting_is_read_under_its_name() -> None:
    """Spec 7: the prefix is MPESA_SYNC_, except for the key, which keeps the platform's name."""
    settings = Settings.load(
        {
            "MPESA_SYNC_DATABASE_URL": URL,
            "MPESA_KMS_KEY": KEY,
            "MPESA_SYNC_OLD_KMS_KEYS": json.dumps(["a" * 32, "b" * 32]),
            "MPESA_SYNC_ALLOW_SANDBOX": "true",
            "MPESA_SYNC_LOG_FORMAT": "JSON",
            "MPESA_SYNC_LOG_LEVEL": "debug",
        }
    )
    assert settings.database_url == Secret(URL)
    assert settings.kms_keys == (Secret(KEY), Secret("a" * 32), Secret("b" * 32))
    assert (settings.allow_sandbox, settings.log_format, settings.log_level) == (True, "json", logging.DEBUG)


def test_a_bare_database_url_is_not_read() -> None:
    """Spec 7: DATABASE_URL belongs to other programs; taking it would be the wrong place."""
    assert Settings.load({"DATABASE_URL": URL}).database_url is None


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        *((word, True) for word in ("true", "TRUE", "1", "yes", "on")),
        *((word, False) for word in ("false", "FALSE", "0", "no", "off")),
    ],
)
def test_a_switch_takes_the_usual_words(word: str, meaning: bool) -> None:
    """Spec 7: ALLOW_SANDBOX."""
    assert Settings.load({"MPESA_SYNC_ALLOW_SANDBOX": word}).allow_sandbox is meaning


WRONG = [
    pytest.param("MPESA_SYNC_DATABASE_URL", "mysql://root:hunter2@h/d", id="another database's URL"),
    pytest.param("MPESA_SYNC_DATABASE_URL", "postgresql://u:hunter2@h:port/d", id="a port that is no number"),
    pytest.param("MPESA_SYNC_DATABASE_URL", "postgresql://u:hunt/er2@h/d", id="an unescaped slash in the password"),
    pytest.param("MPESA_SYNC_DATABASE_URL", "postgresql://u:hunter2@h/d\n", id="a line end"),
    pytest.param("MPESA_SYNC_DATABASE_URL", "", id="an empty URL"),
    pytest.param("MPESA_KMS_KEY", "hunter2" * 4, id="a key of 28 characters"),
    pytest.param("MPESA_KMS_KEY", "é" * 32, id="a key that is not ASCII"),
    pytest.param("MPESA_KMS_KEY", "", id="an empty key"),
    pytest.param("MPESA_SYNC_ALLOW_SANDBOX", "hunter2", id="a switch that is no switch"),
    pytest.param("MPESA_SYNC_LOG_FORMAT", "hunter2", id="an unknown log format"),
    pytest.param("MPESA_SYNC_LOG_LEVEL", "hunter2", id="an unknown log level"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_named_without_its_content(name: str, value: str) -> None:
    """Spec 7: reported by name; what was in it may be a secret."""
    (fault,) = _faults({name: value})
    assert fault.startswith(name)
    assert "hunt" not in fault
    assert "é" not in fault


@pytest.mark.parametrize(
    "value",
    ["hunter2", '"hunter2"', '{"hunter2": 1}', "[1]", '["hunter2"]', "[" * 100_000],
    ids=["no JSON", "a text", "an object", "a number in it", "a short key", "deeply nested"],
)
def test_old_keys_must_be_a_json_list_of_keys(value: str) -> None:
    """Spec 7, K: OLD_KMS_KEYS is a JSON list, and each key has the right shape."""
    (fault,) = _faults({"MPESA_KMS_KEY": KEY, "MPESA_SYNC_OLD_KMS_KEYS": value})
    assert fault.startswith("MPESA_SYNC_OLD_KMS_KEYS")
    assert "hunter2" not in fault


def test_old_keys_need_the_key_that_encrypts() -> None:
    """K: the first key encrypts; an old one must never slip into its place."""
    (fault,) = _faults({"MPESA_SYNC_OLD_KMS_KEYS": json.dumps([KEY])})
    assert "MPESA_KMS_KEY is not" in fault


def test_the_length_of_a_wrong_key_is_told() -> None:
    """Spec 7: a key of the wrong length is told apart from one that is missing, or that opens nothing."""
    assert _faults({"MPESA_KMS_KEY": "x" * 31}) == (
        "MPESA_KMS_KEY has 31 characters; it must be exactly 32 ASCII characters",
    )


def test_all_faults_are_reported_at_once() -> None:
    """Spec 7: nobody mends one fault only to meet the next."""
    environ = dict.fromkeys(DOCUMENTED, "hunter2 ")
    environ |= dict.fromkeys(("MPESA_SYNC_HTTP_HOST", "MPESA_SYNC_JWT_ISSUER", "MPESA_SYNC_JWT_AUDIENCE"), "hunter2 x")
    environ["MPESA_SYNC_ALERT_SPOOL"] = "hunter2\x07"
    faults = _faults(environ)
    assert {name for name in DOCUMENTED for fault in faults if fault.startswith(name)} == set(DOCUMENTED)
    assert not any("hunter2" in fault for fault in faults)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("MPESA_SYNC_DATABSE_URL", "MPESA_SYNC_DATABASE_URL"),
        ("MPESA_SYNC_DATABASE_URI", "MPESA_SYNC_DATABASE_URL"),
        ("MPESA_SYNC_ALLOW_SANBOX", "MPESA_SYNC_ALLOW_SANDBOX"),
        ("MPESA_SYNC_OLD_KMS_KEY", "MPESA_SYNC_OLD_KMS_KEYS"),
        ("MPESA_SYNC_KMS_KEY", "MPESA_KMS_KEY"),
    ],
)
def test_a_misspelt_name_is_a_fault(wrong: str, meant: str) -> None:
    """Spec 6: a misspelt DATABASE_URL would otherwise send a command to the wrong place."""
    assert _faults({wrong: "x"}) == (f"{wrong} is not known; {meant} is",)


@pytest.mark.parametrize(
    "name",
    [
        "MPESA_SYNC_JWKS_URL",
        "MPESA_SYNC_CREDENTIAL_CHECK",
        "MPESA_SYNC_SOMETHING_ELSE",
        "MPESA",
    ],
)
def test_names_of_other_versions_are_left_alone(name: str) -> None:
    """Spec 7: one environment may serve several versions."""
    assert Settings.load({name: ""}) == Settings()


def test_settings_do_not_show_their_secrets() -> None:
    """K: whatever prints the settings prints no password and no key."""
    shown = repr(Settings.load({"MPESA_SYNC_DATABASE_URL": URL, "MPESA_KMS_KEY": KEY}))
    assert "hunter2" not in shown
    assert KEY not in shown
