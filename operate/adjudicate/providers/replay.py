"""Recorded answers as a provider: the same run again without asking anybody."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ....core.errors import RecordError
from ..answer import Reply
from ..question import Question
from .protocol import Prices, ProviderError


class Replay:
    """Answers from transcripts, by the hash of the prompt: a changed prompt has no answer.

    :param build: the build that gave the answers, which they keep.
    """

    def __init__(self, build: str, replies: Mapping[str, Reply]) -> None:
        self._build, self._replies = build, dict(replies)

    @classmethod
    def read(cls, path: Path | str) -> "Replay":
        """Read a JSON Lines file of transcripts: objects with `prompt`, `build` and `reply`.

        :raises RecordError: naming the line that is none, or if the builds differ.
        """
        replies: dict[str, Reply] = {}
        builds: set[str] = set()
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{path}: cannot be read ({error}); give a file of transcripts") from error
        for number, line in enumerate(lines, start=1):
            try:
                document = json.loads(line)
                replies[document["prompt"]] = Reply(**document["reply"])
                builds.add(document["build"])
            except (ValueError, KeyError, TypeError) as error:
                raise RecordError(f"{path}:{number}: is no transcript ({error!r})") from error
        if len(builds) != 1:
            raise RecordError(f"{path}: holds answers of {len(builds)} builds; it must be one")
        return cls(builds.pop(), replies)

    @property
    def build(self) -> str:
        """The build that gave the answers."""
        return self._build

    @property
    def prices(self) -> Prices:
        """Replaying costs nothing."""
        return Prices()

    def ask(self, question: Question, key: str) -> Reply:
        """The recorded answer.

        :raises ProviderError: if there is none for this prompt.
        """
        reply = self._replies.get(question.prompt_hash)
        if reply is None:
            raise ProviderError(
                f"{question.case.record}, {question.case.policy}: no recorded answer to this prompt; record it again"
            )
        return reply


def transcript_lines(entries: Iterable[tuple[Question, str, Reply]]) -> str:
    """Transcripts as `Replay.read` reads them; the prompt is kept as its hash, so that no merchant text is."""
    documents: list[dict[str, Any]] = [
        {
            "record": question.case.record,
            "policy": question.case.policy,
            "prompt": question.prompt_hash,
            "build": build,
            "reply": reply.to_dict(),
        }
        for question, build, reply in entries
    ]
    return "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
