"""What every store does: one body over memory, fakeredis, a real Redis and a real cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from metagame.core.remembered import ENTRY_BYTES
from services.store.base import LEASE_MS, Commit, InvalidCursor, Origin, Outcome, SessionStore, Word
from tests.store.conftest import Backend
from tests.store.samples import ONE, TWO, draft, entry, generation, step, until

pytestmark = pytest.mark.anyio


async def grown(store: SessionStore, steps: int = 0, *, attachment: bytes = b"", origin: Origin = Origin.NAMED) -> None:
    """Session s, made and stepped."""
    assert await store.make("s", draft(attachment=attachment, origin=origin)) == Outcome(Word.MADE)
    for count in range(1, steps + 1):
        assert await store.commit("s", step(count, attachment=attachment)) == Outcome(Word.COMMITTED)


def body_of(outcome: Outcome) -> bytes:
    assert outcome.record is not None
    return outcome.record.body


async def test_a_session_that_nobody_made_is_not_there(store: SessionStore) -> None:
    assert await store.load("s") is None
    assert await store.inspect("s") is None
    assert await store.commit("s", step(1)) == Outcome(Word.GONE)
    assert await store.attach("s", ONE) is None
    await store.detach("s", ONE)
    assert await store.renew([("s", ONE)]) == [Word.GONE]
    assert await store.end("s") is False
    assert await store.end("s", ONE) is False
    assert await store.load("s") is None
    assert (await store.page(None, 10)).sessions == []


async def test_what_was_made_and_committed_is_loaded(store: SessionStore) -> None:
    await grown(store)
    made = await store.load("s")
    assert made is not None
    assert (made.origin, made.generation, made.body) == (Origin.NAMED, generation(0), b"body 0")
    assert (made.remembered, made.attachment, made.attached, made.expires_in_ms) == (b"", b"", False, None)
    assert await store.commit("s", step(1, draw=7)) == Outcome(Word.COMMITTED)
    loaded = await store.load("s")
    assert loaded is not None
    assert (loaded.generation, loaded.body) == (generation(1, 7), b"body 1")
    assert loaded.remembered == entry("request 1", step=1)


@pytest.mark.parametrize("origin", Origin)
async def test_the_origin_is_kept(store: SessionStore, origin: Origin) -> None:
    await grown(store, 1, origin=origin)
    record = await store.load("s")
    assert record is not None
    assert record.origin is origin


async def test_any_bytes_are_a_body(store: SessionStore) -> None:
    body = bytes(range(256)) * 5000
    await grown(store)
    await store.commit("s", Commit(entry("r"), generation(0), generation(1), body))
    record = await store.load("s")
    assert record is not None
    assert record.body == body


async def test_the_same_make_again_answers_made_without_a_request_and_replayed_with_one(store: SessionStore) -> None:
    assert await store.make("s", draft()) == Outcome(Word.MADE)
    assert await store.make("s", draft()) == Outcome(Word.MADE)
    assert await store.make("t", draft("reset")) == Outcome(Word.MADE)
    again = await store.make("t", draft("reset"))
    assert (again.word, body_of(again)) == (Word.REPLAYED, b"body 0")


async def test_make_of_a_session_that_exists_tells_how_it_stands(store: SessionStore) -> None:
    await store.make("s", draft("reset"))
    assert (await store.make("s", draft("other", draw=1))).word is Word.STALE
    assert (await store.make("s", draft("reset", draw=1))).word is Word.REPLAYED
    await store.commit("s", step(1))
    late = await store.make("s", draft("reset"))
    assert (late.word, body_of(late)) == (Word.REPLAYED, b"body 1")
    conflicting = draft(draw=1)
    conflicting = type(conflicting)(conflicting.origin, conflicting.generation, b"x", entry("reset", "another command"))
    assert (await store.make("s", conflicting)).word is Word.CONFLICT
    assert (await store.make("s", draft())).word is Word.STALE


async def test_a_commit_on_an_older_generation_is_stale_and_shows_the_record(store: SessionStore) -> None:
    await grown(store, 1)
    stale = await store.commit("s", step(1, "another"))
    assert (stale.word, body_of(stale)) == (Word.STALE, b"body 1")


async def test_the_random_part_of_a_generation_is_compared(store: SessionStore) -> None:
    await grown(store)
    await store.commit("s", step(1, draw=7))
    assert (await store.commit("s", Commit(entry("r"), generation(1, 8), generation(2), b"x"))).word is Word.STALE
    assert (await store.commit("s", Commit(entry("r"), generation(1, 7), generation(2), b"x"))).word is Word.COMMITTED


async def test_a_remembered_request_is_replayed_whatever_the_generation(store: SessionStore) -> None:
    await grown(store, 3)
    for count in (1, 2, 3):
        again = await store.commit("s", step(count))
        assert (again.word, body_of(again)) == (Word.REPLAYED, b"body 3")
    elsewhere = Commit(entry("request 2", step=99), generation(3), generation(4), b"x")
    assert (await store.commit("s", elsewhere)).word is Word.REPLAYED


async def test_the_same_request_id_with_another_command_conflicts(store: SessionStore) -> None:
    await grown(store, 1)
    other = Commit(entry("request 1", "another command"), generation(1), generation(2), b"x")
    conflict = await store.commit("s", other)
    assert (conflict.word, body_of(conflict)) == (Word.CONFLICT, b"body 1")


async def test_a_request_is_known_by_its_id_where_an_id_stands_and_nowhere_else(store: SessionStore) -> None:
    """Its bytes may happen to stand in a digest, across two entries, or in the body, before or after its own."""
    await grown(store)
    wanted = b"12345678"
    own, ids = wanted + b"a digest" + b"0004", [b"345678--", b"other id", b"the last"]
    tails = [b"a digest" + b"0001", wanted + b"0012", b"a digest" + b"0003"]
    before = [name + tail for name, tail in zip(ids, tails, strict=True)]
    after = [bytes(reversed(name)) + tail for name, tail in zip(ids, tails, strict=True)]
    for count, remembered in enumerate([*before, own, *after], 1):
        commit = Commit(remembered, generation(count - 1), generation(count), wanted * 3)
        assert (await store.commit("s", commit)).word is Word.COMMITTED
    assert (await store.commit("s", Commit(own, generation(3), generation(4), b"x"))).word is Word.REPLAYED
    other = Commit(wanted + b"digest 2" + b"0004", generation(3), generation(4), b"x")
    assert (await store.commit("s", other)).word is Word.CONFLICT


async def test_eight_requests_are_remembered_and_the_ninth_is_forgotten(store: SessionStore) -> None:
    await grown(store, 9)
    record = await store.load("s")
    assert record is not None
    assert record.remembered == b"".join(entry(f"request {count}", step=count) for count in range(9, 1, -1))
    assert (await store.commit("s", step(2))).word is Word.REPLAYED
    assert (await store.commit("s", step(1))).word is Word.STALE
    await store.commit("s", step(10))
    record = await store.load("s")
    assert record is not None
    assert (len(record.remembered), record.body) == (8 * ENTRY_BYTES, b"body 10")


async def test_a_commit_without_a_request_is_not_remembered(store: SessionStore) -> None:
    await grown(store, 1)
    assert (await store.commit("s", Commit(b"", generation(1), generation(2), b"x"))).word is Word.COMMITTED
    record = await store.load("s")
    assert record is not None
    assert (record.remembered, record.body) == (entry("request 1", step=1), b"x")


async def test_superseded_comes_before_replayed_and_replayed_before_stale(store: SessionStore) -> None:
    await grown(store, 2, attachment=ONE)
    await store.attach("s", TWO)
    assert await store.commit("s", step(2, attachment=ONE)) == Outcome(Word.SUPERSEDED)
    assert await store.commit("s", step(1, "new", attachment=ONE)) == Outcome(Word.SUPERSEDED)
    assert (await store.commit("s", step(1, attachment=TWO))).word is Word.REPLAYED
    assert (await store.commit("s", step(1, "new", attachment=TWO))).word is Word.STALE
    assert (await store.commit("s", step(3, attachment=TWO))).word is Word.COMMITTED


async def test_a_commit_without_an_attachment_is_not_fenced_and_leaves_it(store: SessionStore) -> None:
    await grown(store, attachment=ONE)
    before = await store.load("s")
    assert (await store.commit("s", step(1))).word is Word.COMMITTED
    after = await store.load("s")
    assert before is not None
    assert after is not None
    assert (after.attachment, after.lease_until_ms) == (ONE, before.lease_until_ms)


async def test_a_commit_renews_the_lease_of_its_own_attachment(store: SessionStore) -> None:
    await grown(store, attachment=ONE)
    before = await store.load("s")
    assert before is not None

    count = 0

    async def renewed() -> bool:
        nonlocal count
        count += 1
        assert (await store.commit("s", step(count, attachment=ONE))).word is Word.COMMITTED
        record = await store.load("s")
        assert record is not None
        return record.lease_until_ms > before.lease_until_ms

    await until(renewed)


async def test_a_commit_that_renews_no_lease_leaves_it_as_it_is(store: SessionStore) -> None:
    await grown(store, attachment=ONE)
    before = await store.load("s")
    assert before is not None
    await asyncio.sleep(0.01)
    kept = replace(step(1, attachment=ONE), renews=False)
    assert (await store.commit("s", kept)).word is Word.COMMITTED
    after = await store.load("s")
    assert after is not None
    assert (after.attachment, after.lease_until_ms, after.body) == (ONE, before.lease_until_ms, b"body 1")


async def test_attaching_takes_over(store: SessionStore) -> None:
    await grown(store, 1)
    record = await store.attach("s", ONE)
    assert record is not None
    assert (record.attachment, record.body, record.generation) == (ONE, b"body 1", generation(1))
    shown = await store.inspect("s")
    assert shown is not None
    assert shown.attached
    assert await store.renew([("s", ONE), ("s", TWO), ("t", ONE), ("s", b"")]) == [
        Word.RENEWED,
        Word.SUPERSEDED,
        Word.GONE,
        Word.SUPERSEDED,
    ]
    await store.attach("s", TWO)
    assert await store.renew([("s", ONE), ("s", TWO)]) == [Word.SUPERSEDED, Word.RENEWED]


async def test_attaching_unless_owned_spares_another_s_running_lease_and_changes_nothing(store: SessionStore) -> None:
    assert await store.attach("s", ONE, unless_owned=True) is None
    await grown(store, 1)
    taken = await store.attach("s", ONE, unless_owned=True)
    assert taken is not None
    assert (taken.attachment, taken.body) == (ONE, b"body 1")
    standing = await store.attach("s", TWO, unless_owned=True)
    assert standing == taken
    assert await store.renew([("s", ONE), ("s", TWO)]) == [Word.RENEWED, Word.SUPERSEDED]
    again = await store.attach("s", ONE, unless_owned=True)
    assert again is not None
    assert again.attachment == ONE
    await store.detach("s", ONE)
    freed = await store.attach("s", TWO, unless_owned=True)
    assert freed is not None
    assert freed.attachment == TWO
    assert await store.renew([("s", TWO)]) == [Word.RENEWED]


async def test_attaching_unless_owned_takes_over_where_the_lease_has_lapsed(backend: Backend) -> None:
    store = backend.store(lease_ms=30)
    await grown(store, attachment=ONE)

    async def taken() -> bool:
        record = await store.attach("s", TWO, unless_owned=True)
        assert record is not None
        return record.attachment == TWO

    await until(taken)
    assert await store.commit("s", step(1, attachment=ONE)) == Outcome(Word.SUPERSEDED)


async def test_only_the_attachment_s_own_detach_gives_the_session_up(store: SessionStore) -> None:
    assert not await store.detach("s", TWO)
    await grown(store, 1, attachment=TWO)
    assert not await store.detach("s", ONE)
    assert not await store.detach("s", b"")
    shown = await store.inspect("s")
    assert shown is not None
    assert (shown.attachment, shown.attached) == (TWO, True)
    assert await store.detach("s", TWO)
    shown = await store.inspect("s")
    assert shown is not None
    assert (shown.attachment, shown.attached, shown.body) == (b"", False, b"body 1")
    assert not await store.detach("s", TWO)
    assert await store.renew([("s", TWO)]) == [Word.SUPERSEDED]
    assert await store.commit("s", step(2, attachment=TWO)) == Outcome(Word.SUPERSEDED)


async def test_only_the_attachment_s_own_end_or_an_unfenced_one_ends(store: SessionStore) -> None:
    await grown(store, attachment=TWO)
    assert await store.end("s", ONE) is False
    assert await store.load("s") is not None
    assert await store.end("s", TWO) is True
    assert await store.end("s", TWO) is False
    assert await store.load("s") is None
    await grown(store, attachment=TWO)
    assert await store.end("s") is True
    assert await store.end("s") is False
    assert (await store.page(None, 10)).sessions == []


async def test_a_lease_is_a_lease_long_and_inspect_shows_the_ttl(store: SessionStore) -> None:
    await grown(store, attachment=ONE)
    shown = await store.inspect("s")
    assert shown is not None
    assert shown.expires_in_ms is not None
    assert 59_000 - LEASE_MS < shown.expires_in_ms <= 60_000
    await store.keep()
    await store.ping()


async def test_an_attachment_whose_lease_lapsed_is_not_shown_as_attached(backend: Backend) -> None:
    store = backend.store(lease_ms=30)
    await grown(store, attachment=ONE)

    async def lapsed() -> bool:
        shown = await store.inspect("s")
        assert shown is not None
        assert shown.attachment == ONE
        return not shown.attached

    await until(lapsed)
    assert (await store.commit("s", step(1, attachment=ONE))).word is Word.COMMITTED


async def test_an_idle_session_expires_and_a_renewed_one_stays(backend: Backend) -> None:
    store = backend.store(ttl_ms=2500)  # fakeredis counts GETEX in whole seconds
    for name in ("idle", "renewed", "loaded", "replayed", "stale"):
        await store.make(name, draft("reset", attachment=ONE if name == "renewed" else b""))

    async def idle_expired() -> bool:
        assert await store.renew([("renewed", ONE)]) == [Word.RENEWED]
        assert await store.load("loaded") is not None
        assert (await store.commit("replayed", step(1, "reset"))).word is Word.REPLAYED
        assert (await store.commit("stale", step(5))).word is Word.STALE
        return await store.inspect("idle") is None

    await until(idle_expired)
    assert [name for name, _ in (await store.page(None, 10)).sessions if name == "idle"] == []
    assert (await store.make("idle", draft("again", draw=1))).word is Word.MADE


async def test_inspecting_and_being_superseded_renew_nothing(backend: Backend) -> None:
    store = backend.store(ttl_ms=400)
    await grown(store, attachment=ONE)

    async def expired() -> bool:
        await store.commit("s", step(1, attachment=TWO))
        await store.page(None, 5)
        return await store.inspect("s") is None

    await until(expired)


async def test_a_full_pool_refuses_and_tells_how_many_there_are(backend: Backend) -> None:
    store = backend.store(max_sessions=2)
    assert (await store.make("a", draft("1"))).word is Word.MADE
    assert (await store.make("b", draft("2"))).word is Word.MADE
    assert await store.make("c", draft("3")) == Outcome(Word.FULL, active=2)
    assert await store.end("a") is True
    assert (await store.make("c", draft("3"))).word is Word.MADE
    assert await store.make("a", draft("1")) == Outcome(Word.FULL, active=2)


async def test_a_full_pool_answers_for_the_sessions_that_exist(backend: Backend) -> None:
    store = backend.store(max_sessions=1)
    await store.make("a", draft("1"))
    assert (await store.make("a", draft("1"))).word is Word.REPLAYED
    assert (await store.make("a", draft("2", draw=1))).word is Word.STALE
    assert (await store.make("b", draft("1"))).word is Word.FULL
    assert len((await store.page(None, 10)).sessions) == 1


async def test_an_expired_session_s_place_is_free_at_once_for_the_next(backend: Backend) -> None:
    store = backend.store(max_sessions=1, ttl_ms=50)
    await store.make("a", draft("1"))

    async def admitted() -> bool:
        return (await store.make("b", draft("2"))).word is Word.MADE

    await until(admitted)


async def test_an_anonymous_session_ends_after_its_lease_and_others_do_not(backend: Backend) -> None:
    store = backend.store(lease_ms=300, max_sessions=4)
    await store.make("dead", draft(origin=Origin.ANONYMOUS, attachment=ONE))
    await store.make("alive", draft(origin=Origin.ANONYMOUS, attachment=ONE))
    await store.make("named", draft(origin=Origin.NAMED, attachment=ONE))
    await store.make("made", draft(origin=Origin.MADE, attachment=ONE))

    async def swept() -> bool:
        assert await store.renew([("alive", ONE)]) == [Word.RENEWED]
        await store.sweep()
        return await store.inspect("dead") is None

    await until(swept)
    assert {name for name, _ in (await store.page(None, 10)).sessions} == {"alive", "named", "made"}
    assert (await store.make("next", draft())).word is Word.MADE


async def test_a_list_pages_through_every_session_once(store: SessionStore) -> None:
    names = {f"session-{number}" for number in range(23)}
    for name in names:
        await store.make(name, draft())
    listed: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = await store.page(cursor, 5)
        assert len(page.sessions) <= 5
        listed += [name for name, _ in page.sessions]
        assert all(record is not None and record.expires_in_ms for _, record in page.sessions)
        cursor = page.next_cursor
        pages += 1
    assert sorted(listed) == sorted(names)


async def test_a_list_shows_every_session_that_stays_while_others_come_and_go(store: SessionStore) -> None:
    staying = {f"stay-{number}" for number in range(10)}
    for name in staying:
        await store.make(name, draft())
        await store.make(f"going-{name}", draft())
    listed: set[str] = set()
    cursor: str | None = None
    first = True
    while first or cursor is not None:
        page = await store.page(cursor, 3)
        listed |= {name for name, _ in page.sessions}
        for name, _ in page.sessions:
            if name.startswith("going"):
                await store.end(name)
            else:
                await store.make(name, draft("again"))
        if first:
            await store.make("coming", draft())
        cursor, first = page.next_cursor, False
    assert staying <= listed


@pytest.mark.parametrize("cursor", ["", "x", "....", "AAAA", "\u00e9", "eDp5", "MTIzOg=="])
async def test_a_cursor_that_no_page_gave_is_refused(shared_backend: Backend, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        await shared_backend.store().page(cursor, 5)


async def test_of_many_commits_on_one_generation_one_wins(store: SessionStore) -> None:
    await grown(store)
    outcomes = await asyncio.gather(*[store.commit("s", step(1, f"r{number}", draw=number)) for number in range(20)])
    words = [outcome.word for outcome in outcomes]
    assert (words.count(Word.COMMITTED), words.count(Word.STALE)) == (1, 19)


async def test_a_cancelled_caller_harms_nobody_else(store: SessionStore) -> None:
    await grown(store)
    tasks = [asyncio.ensure_future(store.load("s")) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(not isinstance(result, BaseException) for result in results[1::2])
    assert await store.load("s") is not None
