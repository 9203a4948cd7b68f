"""The page in a real browser: two raters rank what they see, and the file holds what they meant."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from residency.data.ranking.book import Book
from residency.data.ranking.server import RankingServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORTH = {"good": 1, "fair": 2, "<b>bad</b>": 3}
CHROMIUM = shutil.which("chromium")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RankingServer]:
    source = tmp_path / "replies.jsonl"
    rows = [
        {"id": f"q{number}", "prompt": f"Question {number}?", "responses": list(WORTH)} for number in range(3)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with RankingServer(Book(source, tmp_path / "rankings.jsonl"), port=0) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def rank_all(page: Page, address: str, rater: str, worth: dict[str, int]) -> None:
    """Rank every prompt as a person does: by what is written, wherever it stands."""
    page.goto(address)
    page.get_by_label("Your name or initials").fill(rater)
    page.get_by_role("button", name="Begin").click()
    for number in range(3):
        page.get_by_text(f"{number} of 3").wait_for()
        assert page.get_by_role("button", name="Save and go on").is_disabled()
        for reply in page.locator(".reply").all():
            rank = worth[reply.locator(".said").inner_text()]
            reply.locator(f"input[value='{rank}']").check(force=True)
        page.get_by_role("button", name="Save and go on").click()
    page.get_by_text("All replies are ranked.").wait_for()


def test_two_raters_rank_blind_and_agree(server: RankingServer, page: Page, tmp_path: Path) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    rank_all(page, server.address, "Ada", WORTH)
    rank_all(page, server.address, "Bo", {"good": 1, "fair": 3, "<b>bad</b>": 2})
    rows = [json.loads(line) for line in (tmp_path / "rankings.jsonl").read_text().splitlines()]
    assert [row["ranks"] for row in rows] == [[1, 2, 3]] * 3 + [[1, 3, 2]] * 3
    assert page.locator("#agreement p").inner_text() == (
        "Ada and Bo: kappa 0.33, 67 % of 9 judgements agree (3 prompts)"
    )
    assert [fault for fault in faults if "favicon" not in fault and "404" not in fault] == []


def test_a_rater_who_cannot_judge_goes_on(server: RankingServer, page: Page, tmp_path: Path) -> None:
    page.goto(server.address)
    page.get_by_label("Your name or initials").fill("Ada")
    page.get_by_role("button", name="Begin").click()
    for number in range(3):
        page.get_by_text(f"{number} of 3").wait_for()
        page.get_by_role("button", name="I cannot judge this").click()
    page.get_by_text("All replies are ranked.").wait_for()
    assert not (tmp_path / "rankings.jsonl").read_text()


def test_only_the_page_itself_may_send_rankings(server: RankingServer) -> None:
    body = json.dumps({"rater": "Eve", "item": "q0", "ranks": [1, 1, 1]}).encode()
    assert sent(server, body, {}) == 403
    assert sent(server, body, {"X-Key": server.key, "Host": "evil.example"}) == 403
    assert sent(server, b"{", {"X-Key": server.key}) == 400
    assert (
        sent(
            server,
            json.dumps({"rater": "Eve", "item": "q0", "ranks": [9, 1, 1]}).encode(),
            {"X-Key": server.key},
        )
        == 409
    )
    assert not server.book.rankings.exists()
    assert sent(server, body, {"X-Key": server.key}) == 200


def sent(server: RankingServer, body: bytes, headers: dict[str, Any]) -> int:
    request = urllib.request.Request(f"{server.address}/rank", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
