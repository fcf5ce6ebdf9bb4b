"""The corpus of schemas is what it says: its instances fit, or do not."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest
from tests.bench.write_schemas import FOLDER, corpus, text_of

CORPUS = corpus()


def test_the_corpus_has_two_hundred_schemas_and_no_file_besides() -> None:
    assert len(CORPUS) >= 200
    assert {path.stem for path in FOLDER.iterdir()} == CORPUS.keys()


@pytest.mark.parametrize("name", CORPUS)
def test_a_file_is_as_written_and_its_instances_are_what_they_say(name) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert text == text_of(CORPUS[name])
    content = json.loads(text)
    validator = jsonschema_rs.validator_for(content["schema"], validate_formats=True)
    for test in content["tests"]:
        assert validator.is_valid(test["data"]) is test["valid"], test
    for wanted in (True, False):
        assert sum(test["valid"] is wanted for test in content["tests"]) >= 3
