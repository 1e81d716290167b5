"""Replay: a run is recorded to a file, and replayed without the backend; what was not recorded is said clearly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ramify.errors import BackendError, RequestTooLong
from ramify.lang.backends.base import Backend, BackendStream, GenerateCall, Outcome, ScoreCall
from ramify.lang.backends.mock import Mock
from ramify.lang.backends.replay import Replay
from ramify.lang.nodes import Media
from ramify.lang.sampling import Constraint, Sampling

from .conftest import waited


def generate(stream: BackendStream, **sampling: Any) -> Outcome:
    call = GenerateCall(Sampling(max_new_tokens=5, **sampling))
    return waited(lambda done: stream.generate(call, done))


def conversation(backend: Backend, pieces: tuple[str, ...] = ("Hel", "lo")) -> list[Any]:
    """A little program, and everything that came of it."""
    stream = backend.stream()
    found: list[Any] = [stream.start_role("user")]
    for piece in pieces:
        stream.append(piece)
    found += [stream.end_role("user"), stream.start_role("assistant"), generate(stream, temperature=0.5)]
    for number, child in enumerate(stream.fork(2)):
        found.append(generate(child))
        child.append(f" and {number}")
        found.append(waited(lambda done, c=child: c.score(ScoreCall(("a", "b c"), True), done)))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def test_a_replay_is_the_run(path: Path) -> None:
    recorded = conversation(Replay(path, record=Mock()))
    assert conversation(Replay(path)) == recorded == conversation(Mock())


def test_how_text_is_cut_does_not_matter(path: Path) -> None:
    recorded = conversation(Replay(path, record=Mock()), ("Hello",))
    assert conversation(Replay(path), ("H", "el", "", "lo")) == recorded


def test_but_where_roles_are_does(path: Path) -> None:
    backend = Replay(path, record=Mock())
    stream = backend.stream()
    stream.append("user starts")
    generate(stream)
    other = Replay(path).stream()
    other.start_role("user")
    assert "nothing was recorded" in str(
        waited(lambda done: other.generate(GenerateCall(Sampling()), done), error=True)
    )


def test_equal_calls_get_the_answers_in_order(path: Path) -> None:
    recording = Replay(path, record=Mock(["one", "two"]))
    for _ in range(2):
        generate(recording.stream())
    replay = Replay(path)
    assert [generate(replay.stream()).texts[0] for _ in range(2)] == ["one", "two"]
    error = waited(lambda done: replay.stream().generate(GenerateCall(Sampling(max_new_tokens=5)), done), error=True)
    assert "have been replayed" in str(error)


def test_what_was_not_recorded(path: Path) -> None:
    stream = Replay(path, record=Mock()).stream()
    stream.append("The capital of France is")
    generate(stream, temperature=0.0)
    other = Replay(path).stream()
    other.append("The capital of France is")
    call = GenerateCall(Sampling(max_new_tokens=5, temperature=0.7), Constraint("regex", "a"))
    message = str(waited(lambda done: other.generate(call, done), error=True))
    assert "sampling.temperature is 0.7, recorded was 0.0" in message and "constraint is" in message
    assert "run.jsonl" in message and "France is" in message and "record=" in message
    other.append(" called")
    message = str(waited(lambda done: other.generate(call, done), error=True))
    assert "nothing was recorded after this text (1 calls" in message


def test_settings_that_change_no_answer_do_not_matter(path: Path) -> None:
    generate(Replay(path, record=Mock()).stream())
    call = GenerateCall(Sampling(max_new_tokens=5, timeout=3.0, retries=1), priority=4, stream=True)
    heard: list[str] = []
    outcome = waited(lambda done: Replay(path).stream().generate(call, done, heard.append))
    assert heard == [outcome.texts[0]]


def test_errors_are_replayed(path: Path) -> None:
    recording = Replay(path, record=Mock([RequestTooLong("too long"), ValueError("odd")]))
    for _ in range(2):
        waited(lambda done: recording.stream().generate(GenerateCall(Sampling()), done), error=True)
    replay = Replay(path)
    errors = [waited(lambda done: replay.stream().generate(GenerateCall(Sampling()), done), error=True) for _ in "ab"]
    assert type(errors[0]) is RequestTooLong and str(errors[0]) == "too long"
    assert type(errors[1]) is BackendError and "ValueError: odd" in str(errors[1])


class Choosing(Mock):
    """Selects in its own way, and sees images."""

    def stream(self) -> BackendStream:  # type: ignore[override]
        stream = super().stream()
        stream.choose = lambda options, done: done(Outcome((options[-1],), ({},))) or (lambda: None)  # type: ignore
        return stream


def test_choices_and_media(path: Path) -> None:
    def chosen(backend: Backend, image: bytes) -> Any:
        stream = backend.stream()
        stream.media(Media("image", image))
        return waited(lambda done: stream.choose(("a", "b"), done))

    assert chosen(Replay(path, record=Choosing()), b"1").texts == ("b",)
    assert chosen(Replay(path), b"1").texts == ("b",)
    other = Replay(path).stream()
    other.media(Media("image", b"2"))
    assert other.choose(("a", "b"), lambda _: None) is None, "another image was not recorded"


def test_files_that_are_none(path: Path) -> None:
    with pytest.raises(BackendError, match="no file"):
        Replay(path)
    for line in ("not json", "[1]", '{"kind": "generate"}', '{"format": "other"}'):
        path.write_text(f'{{"format": "ramify-calls-1"}}\n{line}\n')
        with pytest.raises(BackendError, match="line 2"):
            Replay(path)


def test_the_file_is_plain_and_grows_call_by_call(path: Path) -> None:
    backend = Replay(path, record=Mock())
    assert len(path.read_text().splitlines()) == 1
    stream = backend.stream()
    stream.append("Ä\ud800")
    generate(stream)
    entry = json.loads(path.read_text(encoding="ascii").splitlines()[1])
    assert entry["kind"] == "generate" and entry["ends_in"] == "Ä\ud800" and entry["texts"]


def test_a_disk_that_is_full_is_the_calls_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Replay(path, record=Mock())

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "open", full)
    error = waited(lambda done: backend.stream().generate(GenerateCall(Sampling()), done), error=True)
    assert "no space left" in str(error)


def test_what_a_replay_is(path: Path) -> None:
    Replay(path, record=Mock()).flush_cache()
    replay = Replay(path)
    assert replay.server_info()["backend"] == "replay"
    assert "repeats" in str(replay.stream().cannot("see"))
