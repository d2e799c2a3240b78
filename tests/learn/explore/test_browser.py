"""The page in Chromium: point, change, step, keyboard, both languages, the saved file, and no other address.

Left out where Chromium, its driver or selenium is missing.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from npattn.learn.explore import build, entry
from npattn.learn.explore.saved import explore
from npattn.learn.explore.server import Server

selenium = pytest.importorskip("selenium", reason="selenium is not installed: the page is not tested in a browser")
from selenium import webdriver  # noqa: E402 - after the test whether it is there
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException  # noqa: E402
from selenium.webdriver import ActionChains, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium or chromedriver: the page is not tested"),
]


class Page:
    """The page as a reader has it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        self.rest()
        self.driver.get(address)
        self.until(lambda: self.all("#matrices .card"))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until it is so and the page waits for no answer. It may be drawn again meanwhile."""
        wait = WebDriverWait(self.driver, 20, 0.02, [StaleElementReferenceException, NoSuchElementException])
        try:
            return wait.until(lambda _: not self.all("[aria-busy]") and condition())
        except TimeoutException:
            seen = self.run("return [location.href, document.body.ariaBusy, document.body.innerText.slice(0, 500)]")
            raise AssertionError(f"not so after 20 seconds; the page is {seen}") from None

    def rest(self) -> None:
        """Take the mouse off the matrices: where a page is drawn beneath it, the number there counts as pointed at."""
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 0, "y": 0})

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def spot(self, name: str, index: list[int], is_gradient: bool = False) -> str:
        return f"[data-spot='{json.dumps([name, index, is_gradient], separators=(',', ':'))}']"

    def cell(self, name: str, index: list[int], is_gradient: bool = False) -> WebElement:
        return self.one(self.spot(name, index, is_gradient))

    def point(self, name: str, index: list[int], is_gradient: bool = False) -> None:
        cell = self.cell(name, index, is_gradient)
        self.run("arguments[0].scrollIntoView({block: 'center'})", cell)
        ActionChains(self.driver, duration=0).move_to_element(cell).perform()

    def focused(self) -> Any:
        spot = self.run("return document.activeElement.dataset.spot")
        return spot and json.loads(spot)

    def lit(self) -> list[Any]:
        return sorted(json.loads(each) for each in self.run(
            "return [...document.querySelectorAll('.lit')].map((cell) => cell.dataset.spot)"))  # fmt: skip

    def press(self, *keys: str) -> None:
        """Press keys one after the other; the first of two in one text is held."""
        chain = ActionChains(self.driver, duration=0)
        for each in keys:
            is_held = each[0] == Keys.CONTROL
            chain = chain.key_down(each[0]).send_keys(each[1:]).key_up(each[0]) if is_held else chain.send_keys(each)
        chain.perform()

    def addresses(self) -> set[str]:
        """What the browser has asked for since the last call, without what belongs to itself."""
        found = (json.loads(each["message"])["message"] for each in self.driver.get_log("performance"))
        sent = {each["params"]["request"]["url"] for each in found if each["method"] == "Network.requestWillBeSent"}
        return {url for url in sent if not url.startswith(("data:", "chrome"))}

    def complaints(self) -> list[str]:
        """What the browser writes to its console, without the server's refusals."""
        return [each["message"] for each in self.driver.get_log("browser") if "(Bad Request)" not in each["message"]]


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en",
                 "--window-size=1280,900", "--disable-background-networking", "--no-first-run"):  # fmt: skip
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield Page(driver)
    driver.quit()


@pytest.fixture
def at(served: Server, page: Page) -> Iterator[Callable[..., Page]]:
    """Open a subject, and check at the end that nothing was wrong and that no request left the machine."""

    def show(subject: str, width: int = 1280) -> Page:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        page.open(f"{served.address}?subject={subject}")
        return page

    page.addresses()
    page.complaints()
    yield show
    assert {url.partition(served.host)[0] for url in page.addresses()} == {"http://"}
    assert page.complaints() == []


def is_in_view(page: Page) -> bool:
    """Whether the marked line can be seen, within its column and the window."""
    return bool(page.run("""
        const line = document.querySelector('.line[aria-current]').getBoundingClientRect();
        const column = document.querySelector('#code').getBoundingClientRect();
        return line.top >= column.top && line.bottom <= Math.min(column.bottom, innerHeight);"""))


def formula(found: dict[str, Any]) -> str:
    return "".join(piece["text"] for piece in found["formula"]).replace(" ", "")


def shown(page: Page) -> str:
    return page.text("#formula").replace(" ", "")


def test_every_number_is_there(at: Callable[..., Page]) -> None:
    page = at("v5")
    data = build("v5").as_dict()
    assert page.text("h1") == data["title"]
    names = page.run("return [...document.querySelectorAll('.card')].map((card) => card.dataset.value)")
    assert names == [value["name"] for value in data["values"]]
    A, dA = (page.all(f"[data-value=A] .{half} [data-spot]") for half in ("value", "gradient"))
    assert [each.text for each in page.all("[data-value=E] .value th")] == ["1", "2", "1", "2"]
    assert [each.text for each in A] == ["0.25", "0.75", "0.5", "0.5"]
    assert [each.text for each in dA] == ["8", "4", "8", "4"]
    gradient = page.one("[data-value=A] .gradient")
    assert gradient.location["y"] > page.one("[data-value=A] .value").location["y"]
    assert page.cell("E", [0, 1]).get_attribute("title") == "1.0986122886681098"


@pytest.mark.parametrize("by", ["mouse", "focus"])
def test_point_at_a_number(at: Callable[..., Page], by: str) -> None:
    page, data = at("v5"), build("v5")
    for name, index, is_gradient in (("E", [0, 1], True), ("Y", [1, 0], False), ("A", [0, 0], False)):
        found = entry(data, name, index, is_gradient)
        if by == "mouse":
            page.point(name, index, is_gradient)
        else:
            page.run("arguments[0].focus()", page.cell(name, index, is_gradient))
        page.until(lambda found=found: shown(page) == formula(found))
        assert page.lit() == sorted(found["from"])
        here = page.one(".here").get_attribute("data-spot")
        assert here is not None and json.loads(here) == [name, index, is_gradient]
        marked = page.one(".line[aria-current]")
        assert marked.get_attribute("data-line") == f"{found['line']['file']}:{found['line']['number']}"
        assert found["line"]["code"] in (marked.text or "") and is_in_view(page)
        step = page.text("#check")
        assert (f"complex step{found['complex_step']}".replace("-", "−") in step) is is_gradient


def test_the_mouse_leaves_the_number_that_has_the_focus(at: Callable[..., Page]) -> None:
    page, data = at("v4"), build("v4")
    page.cell("A", [0, 1]).click()
    page.point("Y", [0, 0])
    page.until(lambda: shown(page) == formula(entry(data, "Y", [0, 0])))
    ActionChains(page.driver).move_to_element(page.one("h1")).perform()
    page.until(lambda: shown(page) == formula(entry(data, "A", [0, 1])))
    page.press(Keys.ESCAPE)
    page.until(lambda: "Point at a number" in page.text("#formula"))
    assert page.lit() == [] and page.all(".line[aria-current]") == []


def test_a_piece_of_a_formula_leads_to_its_number(at: Callable[..., Page]) -> None:
    page = at("v4")
    page.cell("Y", [0, 0]).click()
    page.until(lambda: page.all(".piece"))
    next(each for each in page.all(".piece") if each.text == "A[1,2]").click()
    assert page.focused() == ["A", [0, 1], False]
    page.until(lambda: shown(page).startswith("A[1,2]=exp("))


def test_change_a_number(at: Callable[..., Page]) -> None:
    page = at("v4")
    ActionChains(page.driver).double_click(page.cell("X", [0, 0])).perform()
    page.press("2.5", Keys.ENTER)
    data = build("v4", {"numbers": {"X": {"0,0": 2.5}}})
    page.until(lambda: page.cell("X", [0, 0]).text == "2.5")
    cells = "document.querySelectorAll('[data-value=Y] .value [data-spot]')"
    titles = page.run(f"return [...{cells}].map((cell) => cell.title)")
    assert [float(title.replace("−", "-")) for title in titles] == data.shown["Y"].array.ravel().tolist()
    assert page.focused() == ["X", [0, 0], False]
    assert "changed" in (page.cell("X", [0, 0]).get_attribute("class") or "").split()
    page.press(Keys.ENTER, "7", Keys.ESCAPE)
    assert page.cell("X", [0, 0]).text == "2.5" and page.focused() == ["X", [0, 0], False]
    page.press(Keys.ENTER, "seven", Keys.ENTER)
    assert page.one("#error").text == "Expected a number, got “seven”."
    page.press("1e400", Keys.ENTER)                           # over what was typed: it is still there
    assert page.one("#error").text == "Expected a number, got “1e400”."
    page.press("1e9", Keys.ENTER)
    page.until(lambda: "expected a number from -1e6 to 1e6" in page.one("#error").text)
    assert page.cell("X", [0, 0]).text == "2.5"
    page.one("#reset").click()
    page.until(lambda: page.cell("X", [0, 0]).text != "2.5")
    assert not page.one("#error").is_displayed() and not page.one("#reset").is_displayed()


def test_type_over_a_number_and_leave_it(at: Callable[..., Page]) -> None:
    page = at("v5")

    def click(name: str, index: list[int]) -> None:
        """Click, again if the page is drawn meanwhile."""
        page.until(lambda: page.cell(name, index).click() or True)

    for name, keys, text in (("Q", "0.25", "0.25"), ("X", "-3", "−3"), ("mask", "0", "0")):
        click(name, [0, 1])
        page.press(*keys)
        if name == "Q":
            page.press(Keys.ENTER)
        else:
            click("W_V", [1, 0])                              # takes the number, and has the focus now
        page.until(lambda name=name, text=text: page.cell(name, [0, 1]).text == text)
        assert page.focused() == (["Q", [0, 1], False] if name == "Q" else ["W_V", [1, 0], False])
    page.press("2", "-")
    click("Q", [0, 0])
    assert page.one("#error").text == "Expected a number, got “2-”." and page.cell("W_V", [1, 0]).text == "4"
    page.press(Keys.ARROW_RIGHT)
    assert not page.one("#error").is_displayed()


def test_what_cannot_be_changed_says_why(at: Callable[..., Page]) -> None:
    page = at("v5")
    page.run("arguments[0].focus()", page.cell("E", [0, 1]))
    for keys in ("7", Keys.ENTER):
        page.press(keys)
        assert page.one("#error").text == "It is computed. Change a number that it is made of."
        page.press(Keys.ESCAPE)
        assert not page.one("#error").is_displayed() and page.all("td input") == []
    words = page.text("#help")
    assert "type another" in words and "E (2) is the second value that the code gives E." in words
    page = at("decoder_layer")
    Select(page.one("#part")).select_by_visible_text("self_attention")
    page.until(lambda: page.all("[data-value=X_Q]"))
    assert not page.one("#reset").is_displayed()              # a part is no change
    words = "It comes from another part. Choose “the whole” to change it."
    for name, is_gradient in (("X_Q", False), ("Z", True)):
        page.run("arguments[0].focus()", page.cell(name, [0, 0], is_gradient))
        page.until(lambda: page.text("#formula").endswith(words))
        page.press(Keys.SPACE)
        assert page.one("#error").text == words
    page.run("arguments[0].focus()", page.cell("W_Q", [0, 0]))
    page.until(lambda: page.text("#formula").endswith("Given.Change"))
    page.press("3", Keys.ENTER)
    page.until(lambda: page.one("#reset").is_displayed())
    page.one("#reset").click()
    page.until(lambda: not page.one("#reset").is_displayed())
    assert Select(page.one("#part")).first_selected_option.text == "self_attention"
    page = at("g2p")
    assert page.text("#help").endswith("Give it another word.") and "type another" not in page.text("#help")
    assert [each.text for each in page.all("#names button")][2:4] == ["W_Q", "W_K"]


def test_all_digits_are_shown_and_copied(at: Callable[..., Page]) -> None:
    page = at("v5")
    page.run("arguments[0].focus()", page.cell("E", [0, 1]))
    page.until(lambda: page.text("#check") == "all digits1.0986122886681098")
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", permissions)
    read = "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](String(error)))"
    for name, index, text in (("E", [0, 1], "1.0986122886681098"), ("W_K", [1, 1], "-0.8239592165010823")):
        page.run("arguments[0].focus()", page.cell(name, index, name == "W_K"))
        page.press(Keys.CONTROL + "c")
        page.until(lambda text=text: page.driver.execute_async_script(read) == text)


def test_a_reload_and_back_bring_everything_again(at: Callable[..., Page]) -> None:
    page = at("v5")
    page.run("arguments[0].focus()", page.cell("X", [0, 1]))
    page.press("2", Keys.ENTER)
    page.until(lambda: page.cell("X", [0, 1]).text == "2")
    page.press("n", "n", "n")

    def is_as_before(step: str = "第 3 步，共 15 步，前向") -> bool:
        return page.cell("X", [0, 1]).text == "2" and page.text("#step-text").startswith(step)

    page.driver.refresh()
    page.until(lambda: is_as_before("Step 3 of 15, forward"))
    for button in ("#language", "#theme"):
        page.one(button).click()
        page.driver.refresh()
        page.until(is_as_before)
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    assert page.text("h1") == build("v5").title_zh
    assert "changed" in (page.cell("X", [0, 1]).get_attribute("class") or "").split()
    Select(page.one("#subject")).select_by_visible_text("decoder_layer")
    page.until(lambda: page.all("[data-value=M]"))
    Select(page.one("#part")).select_by_visible_text("cross_attention")
    page.until(lambda: page.all("[data-value=W_Q]"))
    page.driver.refresh()
    page.until(lambda: page.all("[data-value=W_Q]"))
    for go, is_there in (
        (page.driver.back, lambda: page.all("[data-value=M]")), (page.driver.back, is_as_before),
        (page.driver.forward, lambda: page.all("[data-value=M]")),
    ):  # fmt: skip
        go()
        page.until(is_there)
    assert page.driver.current_url.endswith("/page?subject=decoder_layer")
    assert page.text("#step-text") == "显示所有步骤。"


def test_empty_matrices_are_named_only(at: Callable[..., Page]) -> None:
    page = at("v13")
    values = build("v13").as_dict()["values"]
    shown = page.run("return [...document.querySelectorAll('.card')].map((card) => card.dataset.value)")
    assert shown == [value["name"] for value in values if 0 not in value["shape"]]
    assert page.text("#matrices > p").startswith("Without numbers here: W_QR (2 × 0), W_KR (2 × 0), Q_R (1 × 2 × 0), ")
    assert len(page.all("#names button")) == len(shown)


@pytest.mark.parametrize("height", [768, 900])
def test_the_end_of_the_page_hides_nothing(at: Callable[..., Page], height: int) -> None:
    page = at("v5")
    metrics = {"width": 1024, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.run("scrollTo(0, document.body.scrollHeight)")
    tops = "return [document.querySelector('#details').getBoundingClientRect().top, "
    top, bar = page.run(tops + "document.querySelector('#steps').getBoundingClientRect().bottom]")
    assert top >= bar


def test_change_the_mask_and_the_gradient_of_the_output(at: Callable[..., Page]) -> None:
    page = at("v5")
    page.run("arguments[0].focus()", page.cell("mask", [0, 1]))
    page.press(Keys.SPACE)
    page.until(lambda: page.cell("mask", [0, 1]).text == "0")
    assert page.cell("A", [0, 1]).text == "0"
    page.point("A", [0, 1])
    page.until(lambda: shown(page) == "A[1,2]=0⇐mask[1,2]=0")
    assert page.lit() == [["mask", [0, 1], False]]
    page.run("arguments[0].focus()", page.cell("Y", [0, 0], True))
    page.press(Keys.ENTER, "3", Keys.ENTER)
    page.until(lambda: page.cell("Y", [0, 0], True).text == "3")
    data = build("v5", {"numbers": {"mask": {"0,1": False}, "dY": {"0,0": 3.0}}})
    title = page.cell("W_V", [0, 0], True).get_attribute("title")
    gradient = data.shown["W_V"].gradient
    assert gradient is not None and title == f"{gradient[0, 0]:g}"
    page.run("arguments[0].focus()", page.cell("A", [0, 0]))
    page.press(Keys.ENTER)
    assert page.all("td input") == []                         # what is computed can't be changed


def test_switches(at: Callable[..., Page]) -> None:
    page = at("v7")
    for name, change in (("no_sqrt_D", True), ("scale_scores", 10), ("heads", 1)):
        field = page.one(f"#switches [name={name}]")
        if change is True:
            field.click()
        else:
            Select(field).select_by_visible_text("× 10" if change == 10 else "1")
        page.until(lambda: not page.all("[aria-busy]"))
    data = build("v7", {"switches": {"no_sqrt_D": True, "scale_scores": 10, "heads": 1}})
    cells = "document.querySelectorAll('[data-value=E] .value [data-spot]')"
    scores = page.run(f"return [...{cells}].map((cell) => Number(cell.title))")
    assert scores == data.shown["E"].array.ravel().tolist()
    assert page.one("[name=no_sqrt_D]").is_selected()
    assert page.one(".loss").text.startswith("L = Σ dZ ⊙ Z = ")


def test_step_forward_and_backward(at: Callable[..., Page]) -> None:
    page, steps = at("v5"), build("v5").as_dict()["steps"]
    for number, step in enumerate(steps, 1):
        page.one("#next").click()
        text, line = page.text("#step-text"), step["line"]
        way = "backward" if step["is_gradient"] else "forward"
        assert text.startswith(f"Step {number} of {len(steps)}, {way}: {line['code']}")
        assert page.one(".line[aria-current]").get_attribute("data-line") == f"{line['file']}:{line['number']}"
        assert is_in_view(page)
        assert ("Two gradients meet" in text) is step["sums"]
        now = page.all(".now")
        assert [each.find_element(By.XPATH, "..").get_attribute("data-value") for each in now] == (
            [step["value"]] if step["value"] else [])  # fmt: skip
        if not step["value"]:
            assert f"{step['name']} = [[" in text
    assert page.all(".future") == []
    page.one("#first").click()
    later = page.run("return [...document.querySelectorAll('.future')].map((half) => half.dataset.half)")
    assert {"dK", "E", "Y", "dQ"} <= set(later) and "K" not in later and "Q" not in later
    slider = page.one("#step")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert page.text("#step-text").startswith("Step 2 of ")
    assert (slider.get_attribute("aria-valuetext") or "").startswith("Step 2 of ")
    page.one("#previous").click()
    page.one("#previous").click()
    assert page.text("#step-text").startswith("Step 1 of ")
    for number in (3, 4):
        if number == 3:
            page.one("#play").click()
            assert page.one("#play").text == "Pause"
        page.until(lambda number=number: page.text("#step-text").startswith(f"Step {number - 1} of "))
    page.one("#language").click()                             # it goes on
    assert page.one("#play").text == "暂停"
    page.until(lambda: page.text("#step-text").startswith("第 4 步"))
    page.one("#language").click()
    page.one("#play").click()
    assert page.one("#play").text == "Play"
    page.one("#first").click()
    page.run("document.activeElement.blur()")
    page.press("n", "n", "n", "p")                            # without a number that has the focus
    assert page.text("#step-text").startswith("Step 3 of ")
    key = "new KeyboardEvent('keydown', { key: 'p', ctrlKey: true, bubbles: true, cancelable: true })"
    assert page.run(f"return document.body.dispatchEvent({key})")   # prints, as everywhere
    assert page.text("#step-text").startswith("Step 3 of ")
    page.one("#first").click()
    page.run("arguments[0].focus()", page.cell("X", [0, 0]))
    page.press("n", "n", "p")
    assert page.text("#step-text").startswith("Step 2 of ")
    page.press(Keys.ESCAPE)
    assert page.text("#step-text") == "All steps are shown."
    page.one("#next").click()
    page.point("Y", [0, 0])
    page.until(lambda: "Y = A @ V" in page.one(".line[aria-current]").text)
    ActionChains(page.driver).move_to_element(page.one("#all")).perform()
    page.until(lambda: "K = project" in page.one(".line[aria-current]").text)
    page.one("#all").click()
    assert page.text("#step-text") == "All steps are shown." and page.all(".future") == []


def test_the_keyboard_reaches_every_number(at: Callable[..., Page]) -> None:
    page = at("v5")
    page.run("arguments[0].focus()", page.cell("K", [0, 0]))
    for keys, spot in (
        (Keys.ARROW_RIGHT, ["K", [0, 1], False]), (Keys.ARROW_DOWN, ["K", [1, 1], False]),
        (Keys.END, ["K", [1, 3], False]), (Keys.HOME, ["K", [1, 0], False]), (Keys.ARROW_UP, ["K", [0, 0], False]),
        (Keys.ARROW_LEFT, ["K", [0, 0], False]), (Keys.ARROW_LEFT, ["K", [0, 0], False]),
        (Keys.CONTROL + Keys.END, ["K", [1, 3], False]), (Keys.CONTROL + Keys.HOME, ["K", [0, 0], False]),
        (Keys.CONTROL + Keys.END, ["K", [1, 3], False]),
        (Keys.ARROW_DOWN, ["K", [0, 3], True]), (Keys.ARROW_UP, ["K", [1, 3], False]),
    ):  # fmt: skip
        page.press(keys)
        assert page.focused() == spot, keys
    reached = 0
    page.run("document.querySelector('[data-spot]').focus()")
    for _ in page.all("[data-spot]"):                         # down and to the right, grid by grid
        reached += 1
        page.press(Keys.ARROW_RIGHT)
    assert reached > 40
    stop = "[data-spot][tabindex='0']"
    assert {len(table.find_elements(By.CSS_SELECTOR, stop)) for table in page.all("#matrices table")} == {1}


def test_names_for_a_screen_reader(at: Callable[..., Page]) -> None:
    page = at("v5")
    found = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in found if not node["ignored"]]
    for role in ("button", "combobox", "slider", "checkbox", "grid", "gridcell", "article", "region"):
        names = [name for each, name in nodes if each == role]
        assert names and all(names), role
    assert ("gridcell", "dE[1,2] = −0.75") in nodes and ("grid", "dE") in nodes
    assert ("heading", build("v5").title) in nodes and ("slider", "Step") in nodes
    assert page.one("#formula").get_attribute("aria-live") == "polite"
    readonly = {each.get_attribute("aria-readonly") for each in page.all("[data-value=E] [data-spot]")}
    assert readonly == {"true"} and page.cell("X", [0, 0]).get_attribute("aria-readonly") == "false"
    assert any(role == "MathMLMath" for role, _ in nodes)


def test_both_languages(at: Callable[..., Page]) -> None:
    page = at("v5")
    assert page.run("return document.documentElement.lang") == "en"
    page.cell("E", [0, 1], True).click()
    page.one("#language").click()
    assert page.run("return document.documentElement.lang") == "zh-CN"
    assert page.one("#language").text == "English" and page.one("#language").get_attribute("lang") == "en"
    page.until(lambda: "复步法" in page.text("#check"))
    assert page.text("h1").startswith("版本 5，交叉注意力：")
    assert page.text("#steps #all") == "全部显示" and page.text("#step-text") == "显示所有步骤。"
    assert page.one("#step").get_attribute("aria-label") == "步骤"
    page.one("#next").click()
    assert page.text("#step-text").startswith("第 1 步，共 15 步，前向：K = project(X, W_K)")
    page.one("#language").click()
    assert page.run("return document.documentElement.lang") == "en" and page.text("#all") == "Show all"


def test_light_and_dark(at: Callable[..., Page]) -> None:
    page = at("v5")
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.one("#theme").click()
    assert page.run(paper) != light
    for _ in range(2):
        assert least_contrast(page) >= 4.5
        page.one("#theme").click()
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": "dark"}]})  # fmt: skip
    page.run("delete document.documentElement.dataset.theme")
    assert page.run(paper) != light
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def least_contrast(page: Page) -> float:
    """Return the least contrast of a number with the colour behind it, as WCAG defines it."""
    pairs = page.run("""
        return [...document.querySelectorAll('[data-spot]')].map((cell) => {
          const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
          const read = (colours) => {
            for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const card = getComputedStyle(cell.closest('.card')).backgroundColor, style = getComputedStyle(cell);
          return [read([style.color]), read([card, style.backgroundColor])];
        });""")

    def luminance(rgb: list[int]) -> float:
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    found = [sorted(map(luminance, pair)) for pair in pairs]
    return min((high + 0.05) / (low + 0.05) for low, high in found)


@pytest.mark.parametrize("subject", ["v5", "v13", "decoder_layer", "g2p"])
def test_a_narrow_screen_needs_no_scrolling_sideways(at: Callable[..., Page], subject: str) -> None:
    for width in (390, 1280):
        page = at(subject, width)
        assert page.run("return document.documentElement.scrollWidth") <= width


def test_what_is_new_is_marked(at: Callable[..., Page]) -> None:
    page = at("v5")
    new = {half.get_attribute("data-half") for half in page.all(".half:has(.new)")}
    values = build("v5").as_dict()["values"]
    expected = {value["name"] for value in values if value["is_new"]}
    expected |= {value["gradient_name"] for value in values if value["gradient_is_new"]}
    assert new == expected and page.one(".new").get_attribute("title") == "not so in v4"


def test_another_subject_and_a_part(at: Callable[..., Page]) -> None:
    page = at("v1")
    Select(page.one("#subject")).select_by_visible_text("decoder_layer")
    page.until(lambda: page.all("[data-value=M]"))
    assert page.driver.title == "npattn: decoder_layer"
    Select(page.one("#part")).select_by_visible_text("cross_attention")
    page.until(lambda: page.all("[data-value=W_Q]"))
    page.cell("A", [0, 0, 0]).click()
    page.until(lambda: shown(page).startswith("A[1,1,1]=exp("))
    page.rest()
    assert {cell.get_attribute("role") for cell in page.all("[data-value=A] .changeable")} == set()
    page.run("arguments[0].focus()", page.cell("W_Q", [0, 1]))
    page.press(Keys.ENTER, "7", Keys.ENTER)
    page.until(lambda: page.cell("W_Q", [0, 1]).text == "7")
    assert "changed" in (page.cell("W_Q", [0, 1]).get_attribute("class") or "").split()


def test_the_trained_model(at: Callable[..., Page]) -> None:
    page, data = at("g2p"), build("g2p").as_dict()
    assert page.one(".answer").text == "knight → N AY T <eos>"
    tables = page.all("table.next")
    assert [table.find_element(By.TAG_NAME, "strong").text for table in tables] == data["target"]
    assert [each.text for each in tables[1].find_elements(By.TAG_NAME, "th")] == [
        each["symbol"] for each in data["probabilities"][1]["next"]]  # fmt: skip
    assert [each.text for each in page.all(".leans th")] == data["source"] + data["target"]
    assert len(page.all("[data-value=A] .value table")) == 4   # heads
    page.cell("A", [0, 1, 2, 3]).click()
    page.until(lambda: shown(page).startswith("A[1,2,3,4]=exp("))
    word = page.one("#model [name=word]")
    word.clear()
    word.send_keys("night", Keys.ENTER)
    page.until(lambda: page.one(".answer").text.startswith("night → N AY T"))
    word = page.one("#model [name=word]")
    word.clear()
    word.send_keys("n8", Keys.ENTER)
    page.until(lambda: "expected letters that the model knows" in page.one("#error").text)
    page.open(page.driver.current_url + "&word=read")         # as `npattn explore g2p read` does
    page.until(lambda: page.one(".answer").text.startswith("read → R "))
    Select(page.one("#part")).select_by_visible_text("encoder.0.self_attention")
    page.until(lambda: len(page.all("[data-value=A] .value th")) == 4 * 8)


def test_the_saved_file(page: Page, tmp_path: Path) -> None:
    """From file://: point, step and read; it says that changing needs the server, and asks for nothing."""
    data = build("v4")
    explore("v4").save(tmp_path / "v4.html")
    page.addresses()
    page.complaints()
    address = (tmp_path / "v4.html").as_uri()
    page.open(address)
    assert page.one("#notice").text.endswith("To change numbers, run: npattn explore v4")
    page.point("E", [0, 1], True)
    page.until(lambda: shown(page) == formula(entry(data, "E", [0, 1], True)))
    assert "complex step−0.75" in page.text("#check")
    assert "dE = softmax_backward" in page.one(".line[aria-current]").text
    page.one("#next").click()
    assert page.text("#step-text").startswith("Step 1 of ")
    page.run("arguments[0].focus()", page.cell("X", [0, 0]))
    page.press(Keys.ENTER)
    assert page.all("td input") == [] and page.all(".changeable") == []
    assert page.one("#error").text == page.one("#notice").text and page.text("#help").endswith("run: npattn explore v4")
    assert not page.one("#subject").is_enabled() and not page.one("#switches select").is_enabled()
    page.one("#language").click()
    assert "要修改数，请运行" in page.one("#notice").text
    assert page.addresses() == {address} and page.complaints() == []


def test_in_a_notebook(page: Page, tmp_path: Path) -> None:
    (tmp_path / "cell.html").write_text(explore("v3")._repr_html_(), encoding="utf-8")
    page.driver.get((tmp_path / "cell.html").as_uri())
    page.driver.switch_to.frame(page.one("iframe"))
    page.until(lambda: page.all("#matrices .card"))
    page.one("#next").click()
    assert page.text("#step-text").startswith("Step 1 of ")
    page.point("y", [0])
    page.until(lambda: shown(page) == formula(entry(build("v3"), "y", [0])))
    page.driver.switch_to.default_content()


def test_go_to_a_matrix(at: Callable[..., Page]) -> None:
    page = at("v5", 390)
    assert [each.text for each in page.all("#names button")][6:10] == ["V", "E", "dE/√D_Q", "A"]
    page.all("#names button")[9].click()
    assert page.focused() == ["A", [0, 0], False]
    top = page.run("return document.querySelector('[data-value=A]').getBoundingClientRect().top")
    assert 0 < top < 450


def test_print_is_light(at: Callable[..., Page]) -> None:
    page = at("v5")
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.run("document.documentElement.dataset.theme = 'dark'")
    assert page.run(paper) != light
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.run(paper) == light and not page.one("#steps").is_displayed()
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_version_before(at: Callable[..., Page]) -> None:
    page = at("v5")
    assert page.one("#before").text == "Grows from v4"
    page.one("#before").click()
    page.until(lambda: page.text("h1").startswith("Version 4"))
    assert page.driver.current_url.endswith("/page?subject=v4") and page.one("#before").text == "Grows from v3"


def test_change_by_a_button(at: Callable[..., Page]) -> None:
    page = at("v4")
    page.cell("Y", [0, 0]).click()
    page.until(lambda: page.all(".piece"))
    assert page.all("#change") == []
    page.rest()
    page.run("arguments[0].focus()", page.cell("X", [0, 1]))
    page.until(lambda: page.one("#change").click() or True)
    page.press("3", Keys.ENTER)
    page.until(lambda: page.cell("X", [0, 1]).text == "3")


def test_a_server_that_has_ended(page: Page) -> None:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        page.open(f"{found.address}?subject=v4")
        page.run("arguments[0].focus()", page.cell("X", [0, 0]))
        found.shutdown()
        thread.join()
    page.press(Keys.ENTER, "3", Keys.ENTER)
    page.until(lambda: page.one("#error").is_displayed())
    assert page.one("#error").text == "The server does not answer. Start it again: npattn explore v4"
    page.complaints()
