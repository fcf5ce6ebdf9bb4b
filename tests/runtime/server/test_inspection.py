"""`furcate models inspect`: facts from headers and configs, as a page and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from typer.testing import CliRunner

from furcate.cli.app import app
from furcate.cli.inspect import show
from furcate.runtime.config import resolve
from furcate.runtime.server import inspection
from furcate.runtime.server.inspection import (
    Inspection,
    KVPlan,
    MemoryPlan,
    TemplateFacts,
    TokenizerFacts,
    inspect_model,
)

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transformers")
from tests.fakes.families import FAMILIES, VOCAB_SIZE
from tests.fakes.folders import add_tokenizer, configure

MIXTURE = Inspection(
    name="org/mixture",
    path="/models/mixture",
    architecture="qwen3_moe",
    family="Qwen3 MoE",
    adds="Qwen3 with experts",
    parameters=30_532_122_624,
    active_parameters=3_353_000_000,
    stored={"BF16": 30_532_122_624},
    file_bytes=61_064_245_248,
    layers=48,
    hidden_size=2048,
    context=40_960,
    tokenizer=TokenizerFacts("BPE of tokenizer.json", 151_669, 26, None, ("<|im_end|>",)),
    template=TemplateFacts(("system", "user", "assistant"), ("<think>", "</think>")),
    kernels="reference",
    why_reference="native kernels cannot run experts",
    memory=MemoryPlan(
        61_064_245_248,
        3_000_000_000,
        128 << 30,
        (KVPlan("bf16", 98_304, 40_960, 189), KVPlan("fp32", 196_608, None, None)),
    ),
    unsupported=("pictures: the text part alone is run",),
)

PAGE = """\
Model          org/mixture
Where          /models/mixture
Architecture   qwen3_moe (Qwen3 MoE: Qwen3 with experts)
Parameters     30.5B, 3.35B for a token
Layers         48 of 2,048
Stored         BF16 30.5B; 56.9 GiB
Context        40,960 tokens
Tokenizer      BPE of tokenizer.json, 151,669 tokens, 26 control
Ends with      <|im_end|>
Chat template  system, user, assistant; thinks between <think> and </think>
Runs on        reference: native kernels cannot run experts
Memory         56.9 GiB of weights, 2.8 GiB to load; 128.0 GiB available

KV cache in  Bytes a token  Longest context  Streams of 4,096
bf16                98,304           40,960               189
fp32               196,608          unknown           unknown

Not supported
- pictures: the text part alone is run
"""


def page_of(found: Inspection) -> str:
    text = io.StringIO()
    show(found, Console(file=text, width=100, highlight=False))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def inspected(folder: Path, **options: object) -> Inspection:
    return inspect_model(resolve({"model": str(folder), **options}, {}))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    family = FAMILIES["llama"]
    folder = family.save(tmp_path / "llama", family.model())
    add_tokenizer(folder)
    return folder


def test_the_page_of_a_mixture() -> None:
    assert page_of(MIXTURE) == PAGE


def test_a_page_without_extras_has_no_lines_for_them() -> None:
    tokenizer = replace(MIXTURE.tokenizer, begins_with="<s>", ends_with=())
    plain = replace(
        MIXTURE, name="/m", path="/m", adds="—", template=None, tokenizer=tokenizer, unsupported=()
    )
    page = page_of(replace(plain, active_parameters=plain.parameters, why_reference=None))
    assert "Where" not in page
    assert "(Qwen3 MoE)" in page
    assert "Parameters     30.5B\n" in page
    assert "Begins with    <s>\nEnds with      nothing\nChat template  none\n" in page
    assert "Runs on        reference\n" in page
    assert "Not supported" not in page


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_inspected_by_headers_and_config(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    folder = family.save(tmp_path, family.model())
    add_tokenizer(folder)
    found = inspected(folder)
    assert found.parameters == sum(found.stored.values())
    assert found.file_bytes == 4 * found.parameters
    assert found.tokenizer.vocab_size == VOCAB_SIZE
    assert found.tokenizer.kind == "BPE of tokenizer.json"
    assert "</s>" in found.tokenizer.ends_with
    assert (found.why_reference is None) == found.kernels.startswith("native")
    assert all(plan.bytes_per_token > 0 for plan in found.memory.kv)
    assert page_of(found)


def test_the_memory_that_is_left_is_shared_out(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "available_bytes", lambda: 64 << 20)
    memory = inspected(llama, kernels="reference", matmul="fp32").memory
    left = (64 << 20) - memory.weights_bytes
    by_dtype = {plan.dtype: plan for plan in memory.kv}
    assert by_dtype.keys() == {"bf16", "fp32"}
    assert by_dtype["fp32"].bytes_per_token == 2 * 2 * 32 * 4  # layers, keys and values, a head
    assert by_dtype["fp32"].streams_of_4096 == left // (512 * 4096)
    assert by_dtype["bf16"].longest_context == 1024
    monkeypatch.setattr(inspection, "available_bytes", lambda: memory.weights_bytes + 5120)
    assert inspected(llama, kernels="reference", matmul="fp32").memory.kv[1].longest_context == 10
    monkeypatch.setattr(inspection, "available_bytes", lambda: None)
    assert inspected(llama).memory.kv[0].longest_context is None


def test_what_is_not_supported_is_listed(llama: Path) -> None:
    (llama / "tokenizer.json").unlink()
    add_tokenizer(llama, VOCAB_SIZE + 1)
    configure(llama, vision_config={"depth": 2})
    told = "\n".join(inspected(llama).unsupported)
    assert f"embeddings of {VOCAB_SIZE}: token {VOCAB_SIZE}, b'[{VOCAB_SIZE}]', has none" in told
    assert "there is no chat template" in told
    assert "pictures: the text part alone is run" in told


def test_roles_and_reasoning_are_those_of_the_template(llama: Path) -> None:
    (llama / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}"
        "{% endif %}<s>{{ m.role }} {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant {% endif %}"
    )
    template = inspected(llama).template
    assert template == TemplateFacts(("system", "user", "assistant"), None)


def test_json_has_the_same_facts(llama: Path) -> None:
    result = CliRunner().invoke(app, ["models", "inspect", str(llama), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["architecture"] == "llama"
    assert facts["parameters"] == facts["active_parameters"] == 94_912
    assert facts["stored"] == {"F32": 94_912}
    assert [plan["dtype"] for plan in facts["memory"]["kv"]]
    assert facts["unsupported"] == list(inspected(llama).unsupported)


@pytest.mark.smollm2
def test_an_alias_and_its_gguf_file_are_inspected() -> None:
    found = inspect_model(resolve({"model": "smollm2"}, {}))
    assert (found.architecture, found.family) == ("llama", "Llama 2, Llama 3")
    assert found.parameters == 134_515_008
    assert found.context == 8192
    assert list(found.stored) == ["Q4_1", "Q8_0", "F32"]
    assert found.template is not None
    assert found.unsupported == ()
