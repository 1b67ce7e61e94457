"""The dashboard without a browser: who gets in, what is shown, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from uuid import uuid4

import httpx
import pytest

from tests.pages import PAGES, page_paths
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack


@pytest.fixture
def browser(stack: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, headers={"Origin": stack.url}) as made:
        yield made


@pytest.fixture
def signed_in_browser(browser: httpx.Client, stack: LocalStack) -> httpx.Client:
    assert confirm_link(browser, stack.sign_in_link()).headers["Location"] == "/"
    return browser


def confirm_link(browser: httpx.Client, link: str) -> httpx.Response:
    """Open a sign-in link and send the form of its page."""
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', browser.get(link).text))
    return browser.post("/sign-in", data={name: unescape(value) for name, value in fields.items()})


def test_a_stranger_is_shown_the_way_to_sign_in_and_comes_back(browser: httpx.Client, stack: LocalStack) -> None:
    for path in PAGES.values():
        assert (
            browser.get(path.format(evaluation="ev_1", other="ev_2", cell="cell_1", image=0))
            .headers["Location"]
            .startswith("/sign-in?next=/")
        )
    page = browser.get(browser.get("/dashboard/compare?ids=a").headers["Location"])
    assert page.status_code == 200
    assert "Bearer token" in page.text
    wanted = re.search(r'name="next" value="([^"]+)"', page.text)[1]
    answer = browser.post("/sign-in", data={"token": stack.token, "next": wanted})
    assert answer.headers["Location"] == "/dashboard/compare?ids=a"


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_a_sign_in_leads_to_our_own_pages_only(browser: httpx.Client, stack: LocalStack, next: str) -> None:
    assert browser.post("/sign-in", data={"token": stack.token, "next": next}).headers["Location"] == "/"


def test_a_link_signs_in_once(browser: httpx.Client, stack: LocalStack) -> None:
    link = stack.sign_in_link()
    answer = confirm_link(browser, link)
    cookie = answer.headers.get_list("Set-Cookie")[0]
    assert cookie.startswith("unveil_session=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert browser.get("/").status_code == 200
    again = httpx.get(link)
    assert again.status_code == 401
    assert "used already" in again.text
    assert "Set-Cookie" not in again.headers


def test_a_token_signs_in_and_a_wrong_one_does_not(browser: httpx.Client, stack: LocalStack) -> None:
    assert browser.post("/sign-in", data={"token": "wrong"}).status_code == 401
    assert browser.post("/sign-in", data={"token": f" {stack.token} "}).status_code == 303
    assert browser.get("/").status_code == 200


def test_signing_out_ends_the_session_itself(signed_in_browser: httpx.Client, stack: LocalStack) -> None:
    cookies = dict(signed_in_browser.cookies)
    assert signed_in_browser.post("/sign-out").status_code == 303
    assert httpx.get(f"{stack.url}/", cookies=cookies).headers["Location"].startswith("/sign-in")


@pytest.mark.parametrize(
    "path", ["/sign-in", "/sign-out", "/dashboard/evaluations/ev_1/cancel", "/dashboard/evaluations/ev_1/delete"]
)
@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_sites_page_changes_nothing(
    signed_in_browser: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    assert signed_in_browser.post(path, headers=headers, data={"token": "x"}).status_code == 403


def test_pages_run_no_script_but_their_own(
    signed_in_browser: httpx.Client, evaluation: Evaluation, other_evaluation: Evaluation
) -> None:
    for name, path in page_paths(PAGES, evaluation, other_evaluation).items():
        page = signed_in_browser.get(path)
        assert page.status_code == (404 if name == "no such page" else 200)
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(
            r"<script(?! type=\"module\" src=\"/static/)|<style|\son\w+=|\sstyle=|https?://", page.text
        )


def test_names_are_text_and_not_markup(signed_in_browser: httpx.Client, evaluation: Evaluation) -> None:
    assert "&lt;b&gt;bold" in signed_in_browser.get("/").text
    assert "<b>bold" not in signed_in_browser.get(f"/dashboard/evaluations/{evaluation.id}").text


def test_an_evaluation_is_edited_and_found_by_its_tag(signed_in_browser: httpx.Client, evaluation: Evaluation) -> None:
    page = f"/dashboard/evaluations/{evaluation.id}"
    form = {"name": evaluation.name, "tags": "<u>, q&a", "notes": "first\r\n<i>second</i>"}
    assert signed_in_browser.post(f"{page}/edit", data=form).headers["Location"] == page
    for path in ("/?tag=q%26a", "/?q=SECOND&status=succeeded&scheme=ele&dataset=sample"):
        text = signed_in_browser.get(path).text
        assert f'href="{page}"' in text
        assert '<a href="/?tag=%3Cu%3E">&lt;u&gt;</a>' in text
    assert f'href="{page}"' not in signed_in_browser.get("/?tag=q").text
    shown = signed_in_browser.get(page).text
    assert 'value="&lt;u&gt;, q&amp;a"' in shown
    assert "&lt;i&gt;second&lt;/i&gt;</p>" in shown
    refused = signed_in_browser.post(f"{page}/edit", data={**form, "tags": "x" * 51})
    assert "takes at most 50 characters" in refused.text
    signed_in_browser.post(f"{page}/edit", data={"name": evaluation.name})
    assert '<ul class="tags"' not in signed_in_browser.get(page).text


def test_a_share_link_is_made_shown_once_and_revoked(
    signed_in_browser: httpx.Client, evaluation: Evaluation, stack: LocalStack
) -> None:
    page = f"/dashboard/evaluations/{evaluation.id}"

    def find_revoke_actions() -> set[str]:
        return set(re.findall(rf'action="({page}/shares/share_\w+/revoke)"', signed_in_browser.get(page).text))

    others = find_revoke_actions()  # of links that other tests made
    made = signed_in_browser.post(f"{page}/shares", data={"days": "3"})
    (url,) = re.findall(r'href="(/shared/[^"]+)"', made.text)
    assert "without images" in made.text
    assert url not in signed_in_browser.get(page).text
    (revoke,) = find_revoke_actions() - others
    with httpx.Client(base_url=stack.url) as reader:
        assert "&lt;b&gt;bold" in reader.get(url).text
        assert signed_in_browser.post(revoke).headers["Location"] == page
        gone = reader.get(url)
        assert (gone.status_code, gone.headers["Referrer-Policy"]) == (404, "no-referrer")
        assert "ask the person who sent it" in gone.text
    assert find_revoke_actions() == others
    assert signed_in_browser.post(f"{page}/shares", data={"days": "0"}).status_code == 404


def test_a_webhook_is_made_shown_without_its_secret_and_deleted(signed_in_browser: httpx.Client) -> None:
    made = signed_in_browser.post("/dashboard/webhooks", data={"url": "https://receiver.test/<hook>"})
    assert "whsec_" in made.text
    page = signed_in_browser.get("/dashboard/webhooks").text
    assert "whsec_" not in page
    assert "https://receiver.test/%3Chook%3E" in page
    refused = signed_in_browser.post("/dashboard/webhooks", data={"url": "http://receiver.test/"})
    assert "The URL must begin with https://." in refused.text
    for delete in re.findall(r'action="(/dashboard/webhooks/webhook_\w+/delete)"', page):
        assert signed_in_browser.post(delete).headers["Location"] == "/dashboard/webhooks"
    assert "No webhooks yet." in signed_in_browser.get("/dashboard/webhooks").text


def test_an_evaluation_is_shown_with_its_figures_and_pictures(
    signed_in_browser: httpx.Client, evaluation: Evaluation
) -> None:
    assert f"/dashboard/evaluations/{evaluation.id}" in signed_in_browser.get("/").text
    page = signed_in_browser.get(f"/dashboard/evaluations/{evaluation.id}").text
    fr = next(cell for cell in evaluation.cells if cell.attack["name"] == "fr")
    assert f"{fr.ssim:.3f}" in page
    assert "paper 0.108" in page
    broken = next(cell for cell in evaluation.cells if cell.attack["name"] == "key-recovery" and cell.samples)
    median = broken.result.median_image
    assert f"Image {median}, the median of 32 images by SSIM" in page
    assert f'src="{broken.links["scores"].replace("scores.csv", f"samples/{median}/plain.png")}"' in page
    report = signed_in_browser.get(f"/evaluations/{evaluation.id}/report.html").text
    assert re.findall(r"Image \d+, the median of [^.<]+", report) == re.findall(
        r"Image \d+, the median of [^.<]+", page
    ), "the same pictures in the report"
    cell = signed_in_browser.get(f"/dashboard/evaluations/{evaluation.id}/cells/{fr.id}").text
    pictures = re.findall(r'src="(/evaluations/[^"]+)"', cell)
    assert len(pictures) == 3 * 12, "a page of the 32 images"
    assert signed_in_browser.get(pictures[0]).headers["Content-Type"] == "image/png"
    assert "The attacker holds protected images only" in cell
    assert "N/A: Key recovery on ELE: " in " ".join(unescape(page).split())


def test_a_failed_evaluation_states_the_reason_once_for_each_scheme(
    signed_in_browser: httpx.Client, stack: LocalStack, truncated_dataset: str
) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": truncated_dataset, "profile": "smoke", "keys": 1, "samples": 0}
        attacks = ["none", "fr", "key-recovery"]
        made = client.evaluations.create(schemes=["tanaka", "ele"], attacks=attacks, **order).wait(timeout=150)
    page = " ".join(unescape(signed_in_browser.get(f"/dashboard/evaluations/{made.id}").text).split())
    why = "dataset half: 'cut.png' is cut off; save it anew"
    assert re.search(rf"11 cells failed.*{re.escape(why)}.*No attack, [^<]*FR-Attack, Key recovery.*Verdicts", page)
    assert page.count(why) == 3, "on top, and in the verdict of each scheme"
    refused = next(cell.reason for cell in made.cells if cell.reason)
    assert f"N/A: Key recovery on ELE: {refused}" in page
    again = signed_in_browser.post(f"/dashboard/evaluations/{made.id}/run-again?failed=true").headers["Location"]
    with Client(stack.url, stack.token) as client:
        retried = client.evaluations.get(again.rpartition("/")[2])
        assert (retried.name, len(retried.cells)) == (f"{made.name} (retry)", len(made.cells))
        retried.cancel()


def test_a_list_names_a_scheme_without_the_settings_of_its_profile(
    signed_in_browser: httpx.Client, stack: LocalStack
) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 0}
        made = client.evaluations.create(schemes=["tn-gan"], attacks=["none"], **order)
        assert "TN-GAN (key …" in signed_in_browser.get("/").text
        made.cancel()


def test_another_accounts_evaluation_is_not_there(stack: LocalStack, evaluation: Evaluation) -> None:
    with httpx.Client(base_url=stack.url, headers={"Origin": stack.url}) as other:
        order = {"name": f"other {uuid4().hex}", "scopes": ["read"]}
        made = other.post("/accounts", json=order, headers={"Authorization": f"Bearer {stack.token}"}).json()
        other.post("/sign-in", data={"token": made["token"]})
        assert "Measure what image encryption hides" in other.get("/").text, "the page that says what to do first"
        id = evaluation.id
        for path in (f"evaluations/{id}", f"evaluations/{id}/cells/{evaluation.cells[0].id}", f"compare?ids={id},ev_0"):
            page = other.get(f"/dashboard/{path}")
            assert page.status_code == 404
            assert "There is no such evaluation" in page.text
        assert "scope" in other.post(f"/dashboard/evaluations/{evaluation.id}/delete").text


def test_style_and_script_are_served_and_nothing_else(browser: httpx.Client) -> None:
    assert browser.get("/static/unveil.css").headers["Content-Type"].startswith("text/css")
    assert browser.get("/static/live.js").headers["Content-Type"].startswith("text/javascript")
    assert browser.get("/static/routes.py").status_code == 404
    assert browser.get("/static/..%2froutes.py").status_code == 404
