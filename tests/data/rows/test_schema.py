from __future__ import annotations

from typing import Any

import pytest

from residency.data.rows.fields import RowError
from residency.data.rows.schema import layout_of, normalise, recognise, spoilt, why_empty
from residency.data.settings import Turns
from residency.errors import ResidencyError

USER, REPLY = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}


def normal(row: dict[str, Any], turns: Turns | None = None) -> dict[str, Any]:
    return normalise({"id": "x", **row}, recognise({"id": "x", **row}, turns), turns)


def test_text_and_dialogues() -> None:
    assert normal({"text": "a", "title": "t"}) == {"id": "x", "text": "a"}
    assert normal({"messages": [USER, {**REPLY, "name": "n"}]}) == {"id": "x", "messages": [USER, REPLY]}
    asked = normal(
        {"question": "Why?", "answer": "So.", "text": "ignored"}, Turns(user="question", assistant="answer")
    )
    assert asked == {"id": "x", "messages": [USER, REPLY]}


def test_preferences_as_text_messages_or_whole_conversations() -> None:
    worse = {"role": "assistant", "content": "No."}
    wanted = {"id": "x", "prompt": [USER], "chosen": [REPLY], "rejected": [worse]}
    assert normal({"prompt": "Why?", "chosen": "So.", "rejected": "No."}) == wanted
    assert normal({"prompt": [USER], "chosen": [REPLY], "rejected": [worse], "aspect": "safe"}) == {
        **wanted,
        "aspect": "safe",
    }
    assert normal({"chosen": [USER, REPLY], "rejected": [USER, worse]}) == wanted


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "options": ["a", "b", "c", "d"], "answer": 2},
        {"question": "Q", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "anatomy"},
        {"question": "Q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2},
        {
            "question": "Q",
            "options": {"A": "a", "B": "b", "C": "c", "D": "d"},
            "answer": "c",
            "answer_idx": "C",
        },
        {"query": "Q", "choices": ["a", "b", "c", "d"], "gold": 2},
        {"question": "Q", "options": [" a", "b ", "c", "d"], "answer": "C"},
    ],
)
def test_exam_items_of_every_layout(row: dict[str, Any]) -> None:
    wanted = {"id": "x", "cluster": "x", "prompt": "Q", "options": ["a", "b", "c", "d"], "answer": 2}
    assert normal(row) == wanted | ({"group": "anatomy"} if "subject" in row else {})


def test_cluster_is_given_or_the_start_of_the_id() -> None:
    item = {"prompt": "The liver makes", "options": [" bile", " urine"], "answer": 0, "form": "cloze"}
    assert normalise({"id": "m1/q2", **item}, "choice")["cluster"] == "m1"
    assert normal({**item, "cluster": "fact"}) == {"id": "x", "cluster": "fact", **item}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"body": "a"}, r"row x: its fields body, id are no text"),
        ({"text": 3}, r"row x: text is 3 \(int\), expected a text"),
        ({"messages": []}, r"row x: messages is \[\] \(list\), expected a list of"),
        ({"messages": [USER]}, r"at least one message of the assistant"),
        (
            {"messages": [{"role": "doctor", "content": "a"}]},
            r"messages\[0\]\.role is .doctor. \(str\), expected system or user or assistant",
        ),
        ({"chosen": 1, "rejected": "b", "prompt": "a"}, r"chosen is 1 \(int\)"),
        (
            {"question": "Q", "options": ["a", "b"]},
            r"an exam item without answer_idx or answer or gold or cop",
        ),
        (
            {"question": "Q", "options": ["a", "b"], "answer": 2},
            r"answer is 2 \(int\), expected 0 to 1, a letter A to B",
        ),
        ({"question": "Q", "options": ["a", "b"], "answer": True}, r"answer is True \(bool\)"),
        ({"question": "Q", "options": ["a", 2], "answer": 0}, r"options is \['a', 2\] \(list\)"),
    ],
)
def test_wrong_fields_are_named(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ResidencyError, match=complaint):
        normal(row)


def test_a_turn_that_is_not_there() -> None:
    with pytest.raises(ResidencyError, match=r"row x: no field 'answer'\. It has id, question"):
        normal({"question": "Why?"}, Turns(user="question", assistant="answer"))


def test_difficulty_is_kept_for_the_order_of_a_mixture() -> None:
    assert normalise({"id": "x", "text": "a", "difficulty": 2}, "text")["difficulty"] == 2.0
    assert "difficulty" not in normalise({"id": "x", "text": "a", "difficulty": None}, "text")
    with pytest.raises(
        ResidencyError, match=r"row x: difficulty is 'hard' \(str\), expected a finite number"
    ):
        normalise({"id": "x", "text": "a", "difficulty": "hard"}, "text")


PLAIN = {"id": "x", "messages": [USER, REPLY]}


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [
                {**USER, "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]},
                REPLY,
            ]
        },
        {"messages": [USER, {**REPLY, "tool_calls": None, "weight": 1}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"conversations": [USER, REPLY], "source": "s"},
        {"instruction": "Why?", "output": "So."},
        {"instruction": "Why?", "input": "", "output": "So.", "text": "Below is an instruction"},
        {"instruction": "Why?", "input": None, "output": "So.", "history": [], "system": ""},
        {"prompt": "Why?", "completion": "So."},
        {"prompt": [USER], "completion": [REPLY]},
    ],
)
def test_dialogues_of_every_layout(row: dict[str, Any]) -> None:
    assert normal(row) == PLAIN


def test_instructions_with_input_system_and_history() -> None:
    row = {"instruction": "Name it.", "input": "bile", "output": "So.", "system": "Be brief."}
    said = [
        {"role": "system", "content": "Be brief."},
        USER,
        REPLY,
        {"role": "user", "content": "Name it.\n\nbile"},
        REPLY,
    ]
    assert normal({**row, "history": [["Why?", "So."]]}) == {"id": "x", "messages": said}
    opened = {
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "user", "value": "Why?"},
            {"from": "chatgpt", "value": "So."},
        ]
    }
    assert normal(opened)["messages"] == [{"role": "system", "content": "s"}, USER, REPLY]


def test_content_is_running_text_where_it_can_be_nothing_else() -> None:
    assert normal({"content": "a", "url": "u"}) == {"id": "x", "text": "a"}
    for row in ({"content": "a", "role": "user"}, {"content": "a", "title": "t", "contents": "t. a"}):
        with pytest.raises(RowError, match="are no text, messages, pair or exam item"):
            normal(row)


def test_a_prompt_that_both_sides_repeat_is_taken_once() -> None:
    worse = {"role": "assistant", "content": "No."}
    row = {"prompt": "Why?", "chosen": [USER, REPLY], "rejected": [USER, worse], "score_chosen": 5.0}
    assert normal(row) == {"id": "x", "prompt": [USER], "chosen": [REPLY], "rejected": [worse]}


@pytest.mark.parametrize(
    ("row", "replies", "ranks"),
    [
        ({"responses": ["b", "c", "a"], "ranks": [2, 3, 1]}, ["a", "b", "c"], [1, 2, 3]),
        ({"answers": ["b", "a"], "rank": [1.5, 1.0]}, ["a", "b"], [1, 2]),
        ({"replies": ["a", "b", "c"], "scores": [0.5, 0.9, 0.9]}, ["b", "c", "a"], [1, 1, 3]),
    ],
)
def test_ranked_replies_come_best_first(row: dict[str, Any], replies: list[str], ranks: list[int]) -> None:
    scores = {"scores": sorted(row["scores"], reverse=True)} if "scores" in row else {}
    expected = {"id": "x", "prompt": [USER], "replies": replies, "ranks": ranks}
    assert normal({"prompt": "Why?", **row}) == expected | scores


def test_ranks_decide_and_scores_go_along() -> None:
    row = {"prompt": "Why?", "responses": ["a", "b", "c"], "ranks": [2, 1, 2], "scores": [3, 5, 1]}
    assert normal(row)["scores"] == [5.0, 3.0, 1.0]


def test_steps_stand_on_lines_of_their_own() -> None:
    row = {"prompt": "Why?", "steps": ["a", " b\n", "c"], "values": [1, 0.5, 0]}
    made = normal(row)
    assert made == {"id": "x", "prompt": [USER], "steps": ["a", " b\n", "c"], "values": [1.0, 0.5, 0.0]}
    assert normal(row | {"steps": ["a", "b", "c"]})["steps"] == ["a\n", "b\n", "c"]
    assert why_empty(made, "steps") is None
    assert why_empty(made | {"steps": ["a", "\n"]}, "steps") == "empty message"


def test_replies_that_are_ranked_alike_teach_nothing() -> None:
    row = normal({"prompt": "Why?", "responses": ["a", "b"], "scores": [1, 1]})
    assert why_empty(row, "ranked") == "all ranked alike"
    assert why_empty({**row, "replies": ["a", " "], "ranks": [1, 2]}, "ranked") == "empty message"
    assert why_empty({**row, "ranks": [1, 2]}, "ranked") is None


def test_pubmedqa_asks_about_its_abstract() -> None:
    wanted = {
        "id": "x",
        "cluster": "x",
        "context": "A.\nB.",
        "prompt": "Is it?",
        "options": ["yes", "no", "maybe"],
        "answer": 2,
    }
    for context in ({"contexts": ["A.", "B."], "labels": ["AIMS", "END"]}, ["A.", "B."], "A.\nB."):
        row = {
            "pubid": 1,
            "question": "Is it?",
            "context": context,
            "long_answer": "L",
            "final_decision": "maybe",
        }
        assert normal(row) == wanted


def test_headqa_numbers_its_answers() -> None:
    wanted = {"id": "x", "cluster": "x", "prompt": "Q", "options": ["a", "b"], "answer": 1}
    answers = [{"aid": 1, "atext": "a "}, {"aid": 2, "atext": "b"}]
    columns = {"aid": [1, 2], "atext": ["a", "b"]}
    for right, said in ((2, answers), ("2", answers), (2, columns)):
        assert normal({"qid": "7", "qtext": "Q", "ra": right, "answers": said, "image": None}) == wanted


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"messages": [USER, {"role": "tool", "content": "4"}, REPLY]}, "row x: messages[1] is a tool call or its "
         "result. Leave such dialogues out"),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
         "row x: messages[1] is a tool call or its result. Leave such dialogues out"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "row x: messages[0].content[0] is {'type': 'image_url', 'image_url': {}} (dict), expected {type: text, text}: "
         "images and sound are not trained on"),
        ({"messages": [USER, {**REPLY, "weight": 0}]},
         "row x: messages[1].weight is 0 (int), expected 1: all that the assistant says carries loss"),
        ({"messages": [USER, {"role": "assistant"}]}, "row x: messages[1].content is None (NoneType), expected a text"),
        ({"messages": ["a"]}, "row x: messages[0] is 'a' (str), expected {role, content}"),
        ({"conversations": []},
         "row x: conversations is [] (list), expected a list of {from: human|gpt|system, value: text}"),
        ({"conversations": [{"from": "bing", "value": "a"}]}, "row x: conversations[0].from is 'bing' (str), expected "
         "system or human or user or gpt or chatgpt or assistant"),
        ({"conversations": [{"from": "observation", "value": "a"}]},
         "row x: conversations[0] is a tool call or its result. Leave such dialogues out"),
        ({"conversations": [{"from": "gpt", "value": 1}]}, "row x: conversations[0].value is 1 (int), expected a text"),
        ({"conversations": ["a"]}, "row x: conversations[0] is 'a' (str), expected {from, value}"),
        ({"instruction": "a", "output": None}, "row x: output is None (NoneType), expected a text"),
        ({"instruction": "a", "output": "b", "history": [["q"]]},
         "row x: history[0] is ['q'] (list), expected [question, answer]"),
        ({"prompt": "a", "completion": 1, "label": False},
         "row x: completion is 1 (int), expected a list of {role: system|user|assistant, content: text}"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "unfinished": 1},
         "row x: unfinished is 1 (int), expected true or false"),
        ({"prompt": 1, "completion": "b"},
         "row x: prompt is 1 (int), expected a list of {role: system|user|assistant, content: text}"),
        ({"chosen": "a", "rejected": "b"}, "row x: no prompt, and chosen and rejected do not start with the same "
         "message. Give prompt, or whole conversations on both sides"),
        ({"prompt": "a", "chosen": [USER], "rejected": "b"}, "row x: chosen is [{'role': 'user', 'content': 'Why?'}] "
         "(list), expected a reply of the assistant to the prompt"),
        ({"prompt": "a", "responses": ["b", "c"]},
         "row x: replies without ranks or scores. It has id, prompt, responses"),
        ({"prompt": "a", "responses": ["b"], "ranks": [1]},
         "row x: responses is ['b'] (list), expected a list of 2 or more texts"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1, None]},
         "row x: scores is [1, None] (list), expected 2 numbers, one for each of responses"),
        ({"prompt": "a", "steps": ["b", "c"], "values": [1, 2]},
         "row x: values is [1, 2] (list), expected 2 numbers between 0 and 1, one for each of steps"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": -1},
         "row x: margin is -1 (int), expected a number of at least 0"),
        ({"question": "Q", "context": [], "final_decision": "yes"},
         "row x: context is [] (list), expected a list of 1 or more texts"),
        ({"question": "Q", "context": "c", "final_decision": "often"},
         "row x: final_decision is 'often' (str), expected yes or no or maybe"),
        ({"qtext": "Q", "answers": [{"aid": 1, "atext": "a"}, {"aid": 2, "atext": "b"}], "ra": 3},
         "row x: ra is 3 (int), expected one of 1, 2"),
        ({"qtext": "Q", "answers": ["a"], "ra": 1}, "row x: answers is ['a'] (list), expected a list of {aid, atext}"),
        ({"content": ["a"]}, "row x: content is ['a'] (list), expected a text"),
    ],
)  # fmt: skip
def test_malformed_rows_say_key_value_and_what_is_expected(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RowError) as error:
        normal(row)
    assert str(error.value) == complaint
    assert error.value.reason == "malformed"


def test_a_row_of_another_schema_says_so() -> None:
    with pytest.raises(RowError) as error:
        normalise({"id": "x", "text": "a"}, "messages")
    assert error.value.reason == "other_schema"
    assert str(error.value) == (
        "row x is text (it has text), its corpus is messages. Make one corpus of each (set file)"
    )


def test_text_that_no_file_can_hold_is_told_apart() -> None:
    for key, text, reason, what in (
        ("text", "a\0b", "nul", "a NUL character in its text"),
        ("text", "a\ud83d", "half_surrogate", "half a surrogate pair ('\\ud83d') in its text"),
        ("messages", [USER, {**REPLY, "content": "\udc00"}], "half_surrogate",
         "half a surrogate pair ('\\udc00') in its messages"),
    ):  # fmt: skip
        fault = spoilt({"id": "x", key: text})
        assert fault and (fault.reason, fault.detail) == (reason, f"row x: {what}")
    broken = spoilt({"id": "\ud800", "text": "a"})
    assert broken and broken.detail == "row \\ud800: half a surrogate pair ('\\ud800') in its id"
    assert spoilt({"id": "x", "text": "😀 كبد e\u0301 ก็", "answer": 1}) is None


def test_layouts_say_which_fields_they_were_found_by() -> None:
    layout, fields = layout_of({"id": "x", "prompt": "a", "answers": [], "scores": []})
    assert (layout.name, fields) == ("ranked replies", ["prompt", "answers"])
