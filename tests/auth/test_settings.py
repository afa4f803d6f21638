"""What the list of keys may be, and that no message shows any."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from services.app import main
from services.settings import Settings, SettingsError, load_settings

KEY, OTHER = "first-key.1", "second-key.2"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METAGAME_API_KEYS", "METAGAME_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("listed", [f"{KEY},{OTHER}", f" {KEY} , {OTHER} "])
def test_keys_stand_between_commas(monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    assert load_settings().keys == ()
    monkeypatch.setenv("METAGAME_API_KEYS", listed)
    assert load_settings().keys == (KEY, OTHER)


@pytest.mark.parametrize("shown", [repr, str, lambda settings: str(settings.model_dump()), Settings.model_dump_json])
def test_settings_that_are_shown_show_no_key(shown: Callable[[Settings], str]) -> None:
    text = shown(load_settings(api_keys=f"{KEY},{OTHER}"))
    assert KEY not in text
    assert OTHER not in text


@pytest.mark.parametrize(
    ("listed", "wrong"),
    [
        (" ", 1),
        ("short", 1),
        (f"{KEY},short", 2),
        (f"{KEY},", 2),
        (f",{KEY}", 1),
        (f"{KEY},,{OTHER}", 2),
        (f"{KEY} {OTHER}", 1),
        ("motörhead", 1),
        (f'"{KEY}"', 1),
        (f"{KEY},{'x' * 257}", 2),
    ],
)
def test_what_is_no_key_stops_the_start_and_is_told_by_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], listed: str, wrong: int
) -> None:
    monkeypatch.setenv("METAGAME_API_KEYS", listed)
    with pytest.raises(
        SettingsError, match=rf"METAGAME_API_KEYS is '\*\*\*', .*: number {wrong} of \d is no key"
    ) as told:
        load_settings()
    assert main() == 2
    said = str(told.value) + capsys.readouterr().err
    with pytest.raises(ValidationError) as raised:
        Settings(api_keys=listed)  # type: ignore[arg-type]
    for part in listed.split(","):
        if part.strip():
            assert part.strip() not in said + str(raised.value)
