"""What a model is asked with is the beginning of what it was trained on, and its replies learn to end."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from residency.artifact import read_manifest
from residency.data import tokens
from residency.data.settings import TokensSettings
from residency.data.tokenization.encoding import DialogueEncoder, stretches
from residency.data.tokenization.tokenizer import ROLES, load_tokenizer, template_of, train_tokenizer
from residency.errors import ResidencyError

SHIPPED = sorted(path.stem for path in (files("residency.recipes") / "templates").iterdir())  # type: ignore[attr-defined]
MARKS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>")
DIALOGUE: dict[str, Any] = {
    "id": "d1",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  What is bile? "},
        {"role": "assistant", "content": "A fluid of the liver.\n\n"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ],
}
SHORT = {"id": "d2", "messages": DIALOGUE["messages"][1:3]}


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    found = load_tokenizer(base)
    found.add_special_tokens({"extra_special_tokens": [*ROLES, *MARKS]})
    return found


def template(name: str, base: Path) -> str:
    if name == "own":
        return str(template_of(base))
    if name in SHIPPED:
        return (files("residency.recipes") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    return str(getattr(pytest.importorskip("trl.chat_template_utils"), name))


@pytest.mark.parametrize("name", ["own", *SHIPPED, "qwen2_5_chat_template"])
def test_prompts_are_the_beginning_of_what_is_trained(name: str, tokenizer: Any, base: Path) -> None:
    """With a system prompt and several turns; the loss is on each reply and its stop token and on nothing else."""
    asked, stop = template(name, base), {"own": "<|end|>", "llama-3": "<|eot_id|>"}.get(name, "<|im_end|>")
    encode = DialogueEncoder(tokenizer, "model", asked, sample=[DIALOGUE, SHORT])
    for row, ids, mask in zip([DIALOGUE, SHORT], *encode([DIALOGUE, SHORT]), strict=True):
        turns = [at for at, message in enumerate(row["messages"]) if message["role"] == "assistant"]
        trained = stretches(mask.tolist())
        assert len(trained) == len(turns)
        for turn, (start, end) in zip(turns, trained, strict=True):
            prompt = tokenizer.apply_chat_template(
                row["messages"][:turn], chat_template=asked, add_generation_prompt=True
            )
            begin = len(prompt["input_ids"])
            assert list(prompt["input_ids"]) == ids[:begin].tolist()
            assert start == begin - (name == "qwen2_5_chat_template"), (
                "TRL marks the line break before it too"
            )
            reply = tokenizer.decode(ids[begin:end]).removesuffix("\n")  # and the one behind
            assert reply == row["messages"][turn]["content"] + stop
    assert tokenizer.decode(sorted(encode.stops)) == stop


def refused(tokenizer: Any, asked: str) -> str:
    with pytest.raises(ResidencyError) as caught:
        DialogueEncoder(tokenizer, "model", asked, sample=[DIALOGUE])
    return str(caught.value)


LOOP = "{% for message in messages %}{% if message.role == 'assistant' %}"
REST = "{% else %}<|user|>{{ message.content }}<|end|>{% endif %}{% endfor %}"
ASK = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
SAID = "{% generation %}{{ message.content + '<|end|>' }}{% endgeneration %}"


def test_a_plain_template_passes(tokenizer: Any) -> None:
    DialogueEncoder(tokenizer, "model", f"{LOOP}<|assistant|>{SAID}{REST}{ASK}", sample=[DIALOGUE])
    # a line break behind the stop token may carry loss
    line = "{% generation %}{{ message.content + '<|end|>\\n' }}{% endgeneration %}"
    DialogueEncoder(tokenizer, "model", f"{LOOP}<|assistant|>{line}{REST}{ASK}", sample=[DIALOGUE])


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (
            f"{LOOP}<|assistant|>{{% generation %}}{{{{ message.content }}}}{{% endgeneration %}}{REST}{ASK}",
            "a reply ends in ' the liver.\\n\\n', in no stop token",
        ),
        (
            f"{LOOP}<|assistant|>{{% generation %}}{{{{ message.content }}}}{{% endgeneration %}}<|end|>{REST}{ASK}",
            "in no stop token that carries loss: the model would not learn to end. Set chat_template",
        ),
        (
            f"{LOOP}<|assistant|>{{% generation %}}{{{{ message.content }}}}END{{% endgeneration %}}{REST}{ASK}",
            "in no stop token that carries loss",
        ),
        (f"{LOOP}<|assistant|>{SAID}{REST}", "is trained to answer behind ...'"),  # asks for no reply
        (f"{LOOP}<|assistant|> {SAID}{REST}{ASK}", "is trained to answer behind ...'"),  # a blank more
        (
            # the history is rendered in another way than it was trained
            f"{LOOP}{{% if loop.last %}}<|assistant|>{{% endif %}}{SAID}{REST}{ASK}",
            "dialogue d1, message 3: with the chat template of model the model would be asked with",
        ),
        # loss on the question too
        (
            "{% for message in messages %}{% generation %}{{ message.content + '<|end|>' }}{% endgeneration %}<|user|>"
            "{% endfor %}{% if add_generation_prompt %}{% endif %}",
            "marks 5 replies of 2",
        ),
    ],
)
def test_templates_that_spoil_the_chat_are_refused(tokenizer: Any, asked: str, complaint: str) -> None:
    assert complaint in refused(tokenizer, asked)


def test_a_line_break_that_melts_into_the_prompt_is_refused() -> None:
    """Asked with `assistant` and a line break, trained behind one token of two line breaks."""
    tokenizer = train_tokenizer(iter(["One.\n\n\nTwo.\n\n\n"] * 20), 300, 512)
    asked = f"{LOOP}<|assistant|>\n{SAID}{REST}{{% if add_generation_prompt %}}<|assistant|>\n{{% endif %}}"
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "\n\nSo."}]
    with pytest.raises(ResidencyError, match="or take blanks at the beginning of replies out"):
        DialogueEncoder(tokenizer, "model", asked, sample=[{"id": "d", "messages": messages}])
    rare = DialogueEncoder(tokenizer, "model", asked, sample=[])
    with pytest.raises(ResidencyError, match="or take blanks at the beginning of replies out"):
        rare([{"id": "d", "messages": messages}])


def test_the_first_dialogues_of_several_replies_are_looked_at_too(tokenizer: Any) -> None:
    """A template that leaves out what was said before: no dialogue of one reply shows it."""
    last = f"{LOOP}{{% if loop.last %}}<|assistant|>{{% endif %}}{SAID}{REST}{ASK}"
    encode = DialogueEncoder(tokenizer, "model", last, sample=[SHORT])
    encode([SHORT])
    with pytest.raises(ResidencyError, match=r"dialogue d1, message 3: .* the model would be asked with"):
        encode([SHORT, DIALOGUE])


def test_truncation_is_asked_for_counted_and_told_per_corpus(
    attempt: Any, make_corpus: Any, base: Path
) -> None:
    long = {"messages": [{"role": "user", "content": "Why? " * 40}, {"role": "assistant", "content": "So."}]}
    chat = make_corpus("chat", [{"messages": DIALOGUE["messages"]}, long])
    other = make_corpus("other", [{"messages": DIALOGUE["messages"]}, {"messages": SHORT["messages"]}])

    def run(**more: Any) -> dict[str, Any]:
        filled = TokensSettings.model_validate(
            {"mixture": {"epochs": {"chat": 1, "other": 1}}, "max_length": 96, **more}
        )
        parents = {"model": base, "corpus:chat": chat, "corpus:other": other}
        return read_manifest(tokens.run(attempt("tokens", "tokens", filled.model_dump(), parents))).measured

    with pytest.raises(ResidencyError, match="corpus chat: 1 of 2 dialogues are longer than max_length = 96"):
        run()
    measured = run(truncate=True)
    assert {name: part["truncated"] for name, part in measured["mixture"].items()} == {"chat": 1, "other": 0}
    assert measured["truncated_dialogues"] == 1
    assert measured["mixture"]["chat"]["truncated_tokens"] > 0
    assert measured["stop_tokens"] == [load_tokenizer(base).convert_tokens_to_ids("<|end|>")]
