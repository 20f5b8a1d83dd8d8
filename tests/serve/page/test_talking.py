"""Asking and answering on the page: from the first picture to the second turn, and every way in which it goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.serve.page.scripted import Refusal, Scripted
from tests.serve.page.visitor import Visitor, painted, sent_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def user_words(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["content"] if part["type"] == "text")


def test_a_picture_is_uploaded_asked_about_and_answered_word_by_word(
    visitor: Visitor, server: Scripted, tmp_path: Path
) -> None:
    server.script.hold_after = 1
    picture = painted(tmp_path, 1)
    visitor.arrive().choose(picture)
    visitor.ask("What is it?")
    visitor.expect("A red")
    assert visitor.answer().get_attribute("aria-busy") == "true"
    assert visitor.button("Stop answering").is_visible()
    server.script.go_on.set()
    assert "A red circle." in visitor.settled("A red circle.").inner_text()
    assert "2 tokens" in visitor.answer().inner_text()
    body = server.script.asked[0]
    assert body["stream"] is True
    assert body["model"] == "painted"
    image, text = body["messages"][0]["content"]
    assert sent_bytes(image) == picture.read_bytes()  # within the limits: what the command line would see
    assert text == {"type": "text", "text": "What is it?"}
    assert visitor.field.input_value() == ""


def test_an_example_is_asked_with_one_press(visitor: Visitor, server: Scripted) -> None:
    visitor.arrive().page.get_by_role("button", name="How many stars are there?").click()
    visitor.settled("A red circle.")
    image, text = server.script.asked[0]["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text["text"] == "How many stars are there?"
    assert (
        visitor.page.locator(".exchange img").get_attribute("alt").startswith("Picture 1: The picture shows 6 objects")
    )  # type: ignore[union-attr]


def test_stop_keeps_what_was_said_and_hangs_up(visitor: Visitor, server: Scripted) -> None:
    server.script.hold_after = 1
    visitor.arrive().ask("Count")
    visitor.expect("A red")
    visitor.button("Stop answering").click()
    assert server.script.left.wait(60)
    assert "A red" in visitor.settled("Stopped.").inner_text()


def test_another_answer_stands_beside_the_first(visitor: Visitor, server: Scripted) -> None:
    visitor.arrive().ask("What is it?")
    visitor.settled("A red circle.")
    server.script.pieces = ["A ring."]
    visitor.button("Answer again").click()
    assert "2 of 2" in visitor.settled("A ring.").inner_text()
    assert server.script.asked[0]["messages"] == server.script.asked[1]["messages"]
    visitor.button("Earlier answer").click()
    visitor.expect("A red circle.")
    visitor.ask("And now?")  # the answer on view is the one that counts
    visitor.settled("A ring.")
    assert server.script.asked[2]["messages"][1] == {"role": "assistant", "content": "A red circle."}


def test_an_edited_question_replaces_what_followed(visitor: Visitor, server: Scripted) -> None:
    visitor.arrive().ask("Furst")
    visitor.settled("A red circle.")
    visitor.ask("Second")
    visitor.settled("A red circle.")
    visitor.page.locator(".asked").first.hover()
    visitor.page.get_by_role("button", name="Edit the question").first.click()
    editor = visitor.page.get_by_role("textbox", name="Edit the question")
    assert editor.input_value() == "Furst"
    visitor.expect("Replaces all that follows.")
    editor.fill("First")
    editor.press("Enter")
    visitor.settled("A red circle.")
    assert [user_words(message) for message in server.script.asked[-1]["messages"]] == ["First"]
    assert visitor.page.locator(".exchange").count() == 1


def test_escape_leaves_the_question_as_it_was(visitor: Visitor) -> None:
    visitor.arrive().ask("First")
    visitor.settled("A red circle.")
    visitor.page.locator(".asked").hover()
    visitor.button("Edit the question").click()
    visitor.page.keyboard.type(" and more")
    visitor.page.keyboard.press("Escape")
    assert visitor.page.locator(".asked .words").inner_text() == "First"


def test_the_second_turn_goes_with_the_first(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    visitor.arrive().choose(painted(tmp_path, 1))
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    visitor.ask("Where?")
    visitor.settled("A red circle.")
    first, answer, second = server.script.asked[1]["messages"]
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    assert answer == {"role": "assistant", "content": "A red circle."}
    assert second == {"role": "user", "content": [{"type": "text", "text": "Where?"}]}


def test_enter_twice_asks_once_and_keeps_what_is_typed_meanwhile(visitor: Visitor, server: Scripted) -> None:
    server.script.hold_after = 1
    visitor.arrive().ask("One")
    visitor.field.press("Enter")
    visitor.expect("A red")
    visitor.ask("Two")
    server.script.go_on.set()
    visitor.settled("A red circle.")
    assert len(server.script.asked) == 1
    assert visitor.field.input_value() == "Two"


def test_shift_enter_starts_a_line(visitor: Visitor, server: Scripted) -> None:
    visitor.arrive().field.fill("One")
    visitor.field.press("Shift+Enter")
    visitor.page.keyboard.type("Two")
    visitor.field.press("Enter")
    visitor.settled("A red circle.")
    assert user_words(server.script.asked[0]["messages"][0]) == "One\nTwo"


@pytest.mark.parametrize("promised", [True, False], ids=["cut off", "ended"])
def test_a_server_that_restarts_in_mid_answer_costs_no_words(
    visitor: Visitor, server: Scripted, tmp_path: Path, promised: bool
) -> None:
    server.script.hold_after = 1
    server.script.promised = promised
    visitor.arrive().choose(painted(tmp_path, 1))
    visitor.ask("What is it?")
    visitor.expect("A red")
    server.stop()
    assert "A red" in visitor.settled("The answer broke off").inner_text()
    visitor.button("Try again").click()
    visitor.settled("The server does not answer. Your words are kept")
    server.script.hang_up = server.script.promised = False
    server.start()
    visitor.button("Try again").click()
    visitor.settled("A red circle.")
    assert server.script.asked[0]["messages"] == server.script.asked[-1]["messages"]


def test_a_full_queue_is_said_and_asked_again_by_itself(visitor: Visitor, server: Scripted) -> None:
    server.script.refusals = [Refusal(status=429, code="queue_full", retry_after=1)] * 2
    visitor.arrive().ask("Count")
    visitor.expect("The server is full just now. Asking again in 1 s.")
    visitor.settled("A red circle.")
    assert len(server.script.asked) == 1


def test_waiting_for_a_full_queue_can_be_stopped(visitor: Visitor, server: Scripted) -> None:
    server.script.refusals = [Refusal(status=429, code="queue_full", retry_after=30)]
    visitor.arrive().ask("Count")
    visitor.expect("Asking again in")
    visitor.field.press("Escape")
    visitor.settled("Stopped before a word.")
    assert server.script.asked == []


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(status=400, code="context_length_exceeded"), "The conversation is too long for this model."),
        (Refusal(status=413, code="body_too_large"), "Too large for the server. Remove a picture or shorten the text."),
        (Refusal(status=429, code="queue_full"), "The server is full just now."),
        (Refusal(status=503, code="stopping"), "The server is stopping and takes no more questions."),
        (Refusal(status=503, code="memory", message="not enough memory"), "The server says: not enough memory"),
        (
            Refusal(status=400, code="image_animated", message="several <b>frames</b>"),
            "The server says: several <b>frames</b>",
        ),
    ],
    ids=lambda value: value.code if isinstance(value, Refusal) else "",
)
def test_a_refusal_is_said_where_it_happened_and_the_question_stays(
    visitor: Visitor, server: Scripted, refusal: Refusal, words: str
) -> None:
    server.script.refusals = [refusal]
    visitor.arrive().ask("A long question")
    assert words in visitor.settled(words).inner_text()
    assert visitor.page.locator(".asked .words").inner_text() == "A long question"
    visitor.button("Try again").click()
    visitor.settled("A red circle.")
    assert visitor.page.locator(".trouble:visible").count() == 0


def test_an_error_in_mid_answer_is_said_below_what_came(visitor: Visitor, server: Scripted) -> None:
    server.script.fault = "the engine stopped"
    visitor.arrive().ask("Count")
    said = visitor.settled("The server says: the engine stopped").inner_text()
    assert said.index("A red") < said.index("The server says")


def test_a_question_without_an_answer_is_not_told_to_the_model(visitor: Visitor, server: Scripted) -> None:
    server.script.refusals = [Refusal(status=400, code="context_length_exceeded")]
    visitor.arrive().ask("Too long")
    visitor.settled("too long for this model")
    visitor.ask("Short")
    visitor.settled("A red circle.")
    assert [user_words(message) for message in server.script.asked[0]["messages"]] == ["Short"]
    visitor.expect("Not answered, so the model does not know of this question.")


def test_a_server_that_is_away_at_first_is_found(visitor: Visitor) -> None:
    visitor.page.route("**/v1/models", lambda route: route.abort())
    visitor.page.goto(visitor.url)
    visitor.expect("The server does not answer. Looking for it.")
    visitor.field.fill("Typed meanwhile")
    visitor.page.unroute("**/v1/models")
    visitor.page.wait_for_selector("#open-card:not([hidden])")
    assert visitor.page.locator("#trouble").is_hidden()
    assert visitor.field.input_value() == "Typed meanwhile"


def test_a_key_is_asked_for_and_goes_with_every_request(visitor: Visitor, server: Scripted) -> None:
    server.script.key = "open sesame"
    visitor.page.goto(visitor.url)
    key = visitor.page.get_by_label("API key")
    key.fill("wrong")
    visitor.button("Done").click()
    visitor.expect("The server asks for an API key.")
    key.fill("open sesame")
    key.press("Enter")
    visitor.page.wait_for_selector("#open-card:not([hidden])")
    visitor.ask("Count")
    visitor.settled("A red circle.")
    visitor.page.reload()
    visitor.page.wait_for_selector("#open-card:not([hidden])")
    kept = visitor.page.evaluate("JSON.stringify({ ...localStorage })")
    assert "sesame" not in kept  # for this tab alone


def test_settings_go_with_the_question(visitor: Visitor, server: Scripted) -> None:
    visitor.arrive().button("Settings").click()
    visitor.page.get_by_label("Temperature").fill("0")
    visitor.page.get_by_label("Top-p").fill("0.9")
    visitor.page.get_by_label("Longest answer").fill("40")
    visitor.page.get_by_label("System text").fill("Be brief.")
    visitor.button("Done").click()
    visitor.page.reload()
    visitor.page.wait_for_selector("#open-card:not([hidden])")
    visitor.ask("Count")
    visitor.settled("A red circle.")
    body = server.script.asked[0]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0, 0.9, 40)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_without_settings_the_length_is_left_to_the_server(visitor: Visitor, server: Scripted) -> None:
    visitor.arrive().ask("Count")
    visitor.settled("A red circle.")
    assert "max_tokens" not in server.script.asked[0]
    assert (server.script.asked[0]["temperature"], server.script.asked[0]["top_p"]) == (0.2, 0.7)


def test_an_answer_cut_at_its_length_says_so(visitor: Visitor, server: Scripted) -> None:
    server.script.finish = "length"
    visitor.arrive().ask("Count")
    visitor.settled("Cut at the longest answer")


def test_the_model_card_tells_parts_parameters_template_and_recipe(visitor: Visitor, server: Scripted) -> None:
    server.script.models = [
        {
            "id": "painted",
            "card": {
                "parts": {"vision": {"parameters": 1234567, "source": "small-vit"}},
                "template": "own",
                "recipe": {"train": {"lr": 0.001}},
            },
        }
    ]
    visitor.arrive().button("painted").click()
    card = visitor.page.get_by_role("dialog").inner_text()
    assert "1,234,567" in card
    assert "own" in card
    visitor.page.get_by_text("Recipe").click()
    visitor.expect('"lr": 0.001')


# ---- What is thought of an answer, and where it looked


def test_a_thumb_down_carries_a_correction(visitor: Visitor, server: Scripted) -> None:
    server.script.models = [{"id": "painted", "collect": True}]
    visitor.arrive().ask("What is it?")
    visitor.settled("A red circle.")
    visitor.button("A bad answer").click()
    visitor.page.get_by_role("textbox", name="What should it have said?").fill("A blue ring.")
    server.script.refusals = [Refusal(status=503, code="full", message="no room")]
    visitor.page.locator(".judgement button").click()
    visitor.expect("The server says: no room")
    visitor.page.locator(".judgement button").click()  # the correction is still there
    visitor.expect("Kept as training data.")
    (rated,) = server.script.rated
    assert (rated["rating"], rated["correction"], rated["answer"]) == ("down", "A blue ring.", "A red circle.")
    assert user_words(rated["messages"][-1]) == "What is it?"
    assert visitor.button("A bad answer").get_attribute("aria-pressed") == "true"


def test_a_correction_and_an_edit_outlive_the_next_question(visitor: Visitor, server: Scripted) -> None:
    server.script.models = [{"id": "painted", "collect": True}]
    visitor.arrive().ask("What is it?")
    visitor.settled("A red circle.")
    visitor.button("A bad answer").click()
    visitor.page.keyboard.type("A blue ring.")
    visitor.page.locator(".asked").hover()
    visitor.button("Edit the question").click()
    visitor.page.keyboard.type(" Really?")
    visitor.ask("Where?")
    visitor.page.locator(".answer").nth(1).wait_for()
    visitor.settled("A red circle.")
    words = (
        visitor.page.locator(".exchange").first.locator("textarea").evaluate_all("all => all.map((each) => each.value)")
    )
    assert words == ["What is it? Really?", "A blue ring."]


def test_a_thumb_up_needs_no_words(visitor: Visitor, server: Scripted) -> None:
    server.script.models = [{"id": "painted", "collect": True}]
    visitor.arrive().ask("What is it?")
    visitor.settled("A red circle.")
    visitor.button("A good answer").click()
    visitor.expect("Kept as training data.")
    assert [(each["rating"], each["correction"]) for each in server.script.rated] == [("up", None)]


def test_a_server_that_neither_collects_nor_explains_shows_no_buttons_for_it(visitor: Visitor, tmp_path: Path) -> None:
    visitor.arrive().choose(painted(tmp_path, 1))
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    for name in ("A good answer", "Where it looked"):
        assert visitor.page.get_by_role("button", name=name).count() == 0


def test_where_it_looked_lies_over_each_picture(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    server.script.models = [{"id": "painted", "explain": True}]
    server.script.heat = [[[0.0] * 6] * 5 + [[0.0] * 5 + [1.0]], [[0.25] * 6] * 6]
    visitor.arrive().choose(painted(tmp_path, 1), painted(tmp_path, 2))
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    visitor.button("Where it looked").click()
    visitor.expect("The brighter a place, the more it mattered")
    shade = "each => [...each.getContext('2d').getImageData(0, 0, 6, 6).data].filter((_, place) => place % 4 === 3)"
    first, second = (visitor.page.locator(".heat canvas").nth(number).evaluate(shade) for number in (0, 1))
    assert first == [190] * 35 + [0]  # dark but in the last patch
    assert second == [95] * 36
    assert server.script.explained[0]["answer"] == "A red circle."
    visitor.button("Where it looked").click()
    assert visitor.page.locator(".heat").count() == 0


# ---- Side by side


def test_two_models_answer_the_same_question_side_by_side(visitor: Visitor, server: Scripted) -> None:
    server.script.models = [{"id": "align"}, {"id": "instruct"}]
    server.script.by_model = {"align": ["A caption."], "instruct": ["Two."]}
    visitor.arrive().ask("How many?")
    visitor.settled("Two.")
    assert visitor.answer(0).inner_text().startswith("align")
    left, right = (visitor.answer(number).bounding_box() for number in (0, 1))
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]
    visitor.ask("Sure?")
    visitor.page.locator(".answer").nth(3).wait_for()
    visitor.settled("Two.")
    told = {body["model"]: body["messages"][1]["content"] for body in server.script.asked[2:]}
    assert told == {"align": "A caption.", "instruct": "Two."}  # each hears its own answers


def test_one_of_two_models_can_be_asked_alone(visitor: Visitor, server: Scripted) -> None:
    server.script.models = [{"id": "align"}, {"id": "instruct"}]
    visitor.arrive().page.locator("#whom").get_by_text("instruct", exact=True).click()
    visitor.ask("How many?")
    visitor.settled("A red circle.")
    assert [body["model"] for body in server.script.asked] == ["instruct"]


def test_one_of_two_answers_can_fail_alone(visitor: Visitor, server: Scripted) -> None:
    server.script.models = [{"id": "align"}, {"id": "instruct"}]
    server.script.refusals = [Refusal(status=400, code="context_length_exceeded")]
    visitor.arrive().ask("How many?")
    visitor.settled("")
    said = sorted(visitor.answer(number).locator(".said").inner_text() for number in (0, 1))
    assert said == ["", "A red circle."]
    assert visitor.page.locator(".answer .trouble").count() == 1


# ---- What the browser keeps


def test_conversations_and_drafts_outlive_a_reload(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    visitor.arrive().choose(painted(tmp_path, 1))
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    visitor.field.fill("Half a ques")
    visitor.page.reload()
    visitor.page.get_by_role("button", name="What is it?", exact=True).click()
    assert visitor.answer().locator(".said").inner_text() == "A red circle."
    assert (
        visitor.page.locator(".exchange img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    )
    assert visitor.field.input_value() == "Half a ques"
    visitor.field.fill("Where?")
    visitor.field.press("Enter")
    visitor.settled("A red circle.")
    assert server.script.asked[1]["messages"][0]["content"] == server.script.asked[0]["messages"][0]["content"]


def test_a_page_closed_in_mid_answer_keeps_what_came(visitor: Visitor, server: Scripted) -> None:
    server.script.hold_after = 1
    visitor.arrive().ask("What is it?")
    visitor.expect("A red")
    visitor.page.reload()
    visitor.page.get_by_role("button", name="What is it?", exact=True).click()
    visitor.expect("The page was closed before the answer was whole.")
    assert server.script.left.wait(60)


def test_a_deleted_conversation_can_be_brought_back(visitor: Visitor) -> None:
    visitor.arrive().ask("What is it?")
    visitor.settled("A red circle.")
    visitor.page.get_by_role("button", name="Delete What is it?").click()
    assert visitor.page.locator("#conversations li").count() == 0
    visitor.button("Undo").click()
    visitor.expect("A red circle.")
    visitor.page.get_by_role("button", name="Delete What is it?").click()
    visitor.page.reload()
    visitor.page.wait_for_selector("#open-card:not([hidden])")
    assert visitor.page.locator("#conversations li").count() == 0


def test_an_answer_goes_on_while_another_conversation_is_read(visitor: Visitor, server: Scripted) -> None:
    server.script.hold_after = 1
    visitor.arrive().ask("First")
    visitor.expect("A red")
    visitor.button("New conversation").click()
    assert visitor.page.get_by_role("heading", name="Ask about a picture").is_visible()
    server.script.go_on.set()
    visitor.until(
        """import('/store.js').then(({ load }) => load())
          .then(([{ exchanges: [{ columns: [{ tries: [{ state }] }] }] }]) => state === 'done')"""
    )
    visitor.page.get_by_role("button", name="First", exact=True).click()
    visitor.settled("A red circle.")


@pytest.fixture
def stranger(browser: Browser, server: Scripted) -> Iterator[Visitor]:
    """Somebody whose browser keeps nothing."""
    context = browser.new_context()
    context.add_init_script(
        "for (const name of ['indexedDB', 'localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('no', 'SecurityError') } })"
    )
    stranger = Visitor(context.new_page(), server.url)
    yield stranger
    context.close()
    assert stranger.errors == []


def test_a_browser_without_room_says_so_and_works(stranger: Visitor) -> None:
    stranger.arrive()
    stranger.expect("This browser does not keep conversations")
    stranger.ask("What is it?")
    stranger.settled("A red circle.")
    stranger.expect("This browser does not keep conversations")


def test_old_conversations_make_room(visitor: Visitor) -> None:
    visitor.arrive().page.evaluate(
        """async () => {
          const { save, KEPT } = await import("/store.js");
          for (let number = 0; number < KEPT; number += 1) {
            await save({ id: String(number), title: `Old ${number}`, updated: number, exchanges: [] });
          }
        }"""
    )
    visitor.page.reload()
    visitor.page.wait_for_selector("#open-card:not([hidden])")
    visitor.ask("One more")
    visitor.settled("A red circle.")
    visitor.expect("the oldest made room")
    visitor.page.reload()
    visitor.page.get_by_role("button", name="One more", exact=True).wait_for()
    assert visitor.page.locator("#conversations li").count() == 50
    assert visitor.page.get_by_role("button", name="Old 0", exact=True).count() == 0
