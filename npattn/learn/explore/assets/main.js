// Puts the page together, and listens to the reader.

import { find, kept, label, language, make, otherLanguage, writeLabels } from "./dom.js";
import { drawLegend, fitScales, shortNumber } from "./colours.js";
import { change, isSaved, keep, state, valueNamed, withNumber } from "./state.js";
import { canChange, cellAt, drawMatrices, keepTabStop, move, nameOfChange, spotOf, whyNot } from "./matrices.js";
import { showNumber, showStep } from "./details.js";
import { drawCode } from "./code.js";
import { drawModel } from "./model.js";

const option = (value, chosen, text = value) => make("option", { value, selected: value === chosen }, text);

function drawChoices() {
  const { page } = state, groups = [...new Set(page.subjects.map((subject) => subject.group))];
  find("subject").replaceChildren(...groups.map((group) => make("optgroup", { label: label(`group_${group}`) },
    page.subjects.filter((subject) => subject.group === group).map(({ name }) => option(name, page.subject)))));
  find("subject").disabled = isSaved;
  find("part").replaceChildren(...["", ...page.parts].map((part) => option(part, page.part, part || label("whole"))));
  find("part").disabled = isSaved;
  find("part-label").hidden = page.parts.length === 0;
  find("title").textContent = language === "zh" ? page.title_zh : page.title;
  document.title = `npattn: ${page.subject}`;
  find("notice").hidden = !isSaved;
  find("notice").textContent = isSaved ? label("saved_notice", { subject: page.subject }) : "";
}

function switchOf({ name, kind, value, choices }) {
  const set = (now) => apply({ ...state.changes, switches: { ...state.changes.switches, [name]: now } });
  const text = label(`switch_${name}`);
  if (kind === "flag") {
    return make("label", {}, make("input", {
      type: "checkbox", name, checked: value, disabled: isSaved, onchange: (event) => set(event.target.checked),
    }), " ", text);
  }
  if (kind === "number") {
    const factors = [...new Set([0.1, 1, 10, value])].sort((a, b) => a - b);
    return make("label", {}, text, " ", make("select", {
      name, disabled: isSaved, onchange: (event) => set(Number(event.target.value)),
    }, factors.map((x) => option(x, value, `× ${shortNumber(x)}`))));
  }
  return make("label", {}, text, " ", make("select", {
    name, disabled: isSaved, onchange: (event) => set(choices[event.target.selectedIndex]),
  }, choices.map((each) => option(each, value, String(each)))));
}

function drawSwitches() {
  const { part, ...others } = state.changes;
  const loss = make("span", { class: "loss" }, `${label(state.page.word === null ? "loss" : "loss_model", state.page)} = `,
    make("strong", {}, shortNumber(state.page.loss)));
  const reset = make("button", {
    type: "button", id: "reset", hidden: isSaved || Object.keys(others).length === 0, onclick: () => apply(part ? { part } : {}),
  }, label("reset"));
  const { before } = state.page;
  const earlier = before && make("button", {
    type: "button", id: "before", disabled: isSaved, title: label("new_title", { before }), onclick: () => {
      state.step = null;
      apply({}, before);
    },
  }, label("before", { before }));
  find("switches").replaceChildren(...[...state.page.switches.map(switchOf), loss, earlier, reset].filter(Boolean));
}

function draw() {
  writeLabels();
  fitScales(state.page);
  drawChoices();
  drawSwitches();
  drawModel(apply);
  drawMatrices();
  drawCode();
  drawLegend(state.page);
  drawHelp();
  nameOfPlay();
  if (state.step !== null) state.step = Math.min(state.step, state.page.steps.length);
  if (state.pointed && !cellAt(...state.pointed)) state.pointed = null;
  showNumber(state.pointed);
  showStep();
}

function drawHelp() {
  const again = state.page.values.find(({ name }) => / \(2\)$/.test(name))?.name;
  find("help").textContent = [
    label("help"), again && label("again_help", { again, name: again.split(" (")[0] }),
    find("matrices").querySelector(".changeable") ? label("help_change") : whyNot({ lines: [] }, false),
  ].filter(Boolean).join(" ");
}

function showError(error) {
  find("error").hidden = !error;
  find("error").textContent = error ? error.message : "";
}

// Take changes, draw the page again, and put the focus back where it was. Back of the browser leads to what was shown.
async function apply(changes, subject = state.subject, how = null) {
  const shown = state.page && [state.page.subject, state.page.part];
  stop();
  document.body.setAttribute("aria-busy", "true");
  try {
    await change(subject, changes);
    showError(null);
  } catch (error) {
    showError(error);
  }
  document.body.removeAttribute("aria-busy");
  if (!state.page) return;
  const { id, name } = document.activeElement, spot = spotOf(document.activeElement.closest("[data-spot]"));
  draw();
  keep(how ?? (!shown || String(shown) === String([state.page.subject, state.page.part]) ? "replaceState" : "pushState"));
  const again = spot ? cellAt(...spot) : find(id) ?? (name && document.querySelector(`form [name="${name}"]`));
  again?.focus({ preventScroll: true });
}

// Write a new number into a cell, which may begin with what was typed. Enter takes it, and so does leaving the cell;
// Escape leaves the old one.
function edit(cell, typed = "") {
  const [name, index, isGradient] = spotOf(cell), value = valueNamed(name);
  if (cell.querySelector("input")) return;
  if (!canChange(value, isGradient)) {
    showError(new Error(whyNot(value, isGradient)));
    return;
  }
  const array = nameOfChange(name, isGradient);
  let old = isGradient ? value.gradient : value.numbers;
  for (const i of index) old = old[i];
  if (typeof old === "boolean") {
    apply(withNumber(array, index, typed ? typed !== "0" : !old));
    return;
  }
  const input = make("input", { value: typed || String(old), inputmode: "decimal", "aria-label": label("new_number") });
  const before = [...cell.childNodes];
  let isOpen = true;
  const close = (takes) => {
    const number = Number(input.value.trim().replace("−", "-").replace(",", ".") || NaN);
    const isWrong = takes && !Number.isFinite(number);
    showError(isWrong ? new Error(label("no_number", { text: input.value })) : null);
    if (isWrong && document.activeElement === input) {
      input.select();
      return;
    }
    const hasFocus = document.activeElement === input;
    isOpen = false;
    cell.replaceChildren(...before);
    if (hasFocus) cell.focus({ preventScroll: true });
    if (takes && !isWrong && number !== old) apply(withNumber(array, index, number));
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" || event.key === "Escape") close(event.key === "Enter");
  });
  input.addEventListener("blur", () => {              // not where another window has the focus
    if (isOpen && document.activeElement !== input) close(true);
  });
  cell.replaceChildren(input);
  input.select();
  if (typed) input.setSelectionRange(1, 1);
}

let playing = null;

// Step by itself, until the last step or until the reader does something else.
function play() {
  const isOver = playing || !state.page.steps.length;
  stop();
  if (!isOver) {
    if (state.step === state.page.steps.length) state.step = null;
    playing = setInterval(() => {
      goTo((state.step ?? 0) + 1);
      if (state.step === state.page.steps.length) stop();
    }, 1500);
    goTo((state.step ?? 0) + 1);
  }
  nameOfPlay();
}

function stop() {
  clearInterval(playing);
  playing = null;
  nameOfPlay();
}

function nameOfPlay() {
  find("play").textContent = label(playing ? "pause" : "play");
}

function stepTo(step) {
  stop();
  goTo(step);
}

function goTo(step) {
  state.step = step === null ? null : Math.max(1, Math.min(step, state.page.steps.length));
  showStep();
  keep();
}

function onKey(event) {
  if (event.altKey || event.metaKey || !state.page || event.target.matches("select, #model input")) return;
  const cell = event.target.closest("[data-spot]"), isPlain = !event.ctrlKey;
  const moves = ["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Home", "End"];
  if (event.key === "n" && isPlain) stepTo((state.step ?? 0) + 1);
  else if (event.key === "p" && isPlain) stepTo((state.step ?? 2) - 1);
  else if (event.key === "Escape") {
    state.pointed = null;
    showError(null);
    showNumber(null);
    stepTo(null);
  } else if (!cell) return;
  else if (moves.includes(event.key)) {
    showError(null);
    move(cell, event.key, event.ctrlKey);
  } else if (event.key === "Enter" || event.key === "F2" || event.key === " ") edit(cell);
  else if (/^[-−.\d]$/.test(event.key) && isPlain) edit(cell, event.key);
  else return;
  event.preventDefault();
}

// A number is copied with all its digits.
function onCopy(event) {
  const cell = document.activeElement, chosen = getSelection();
  if (!cell.dataset.spot || !(chosen.isCollapsed || cell.contains(chosen.anchorNode))) return;
  event.clipboardData.setData("text/plain", cell.title.replaceAll("−", "-"));
  event.preventDefault();
}

function listen() {
  const grids = find("matrices");
  let hover = 0;
  const pointAt = (cell) => {
    clearTimeout(hover);
    const spot = spotOf(cell) ?? state.pointed;
    hover = setTimeout(() => showNumber(spot), 40);   // not for each number that the mouse crosses
  };
  grids.addEventListener("mouseover", (event) => pointAt(event.target.closest("[data-spot]")));
  grids.addEventListener("mouseleave", () => pointAt(null));
  grids.addEventListener("focusin", (event) => {
    const cell = event.target.closest("[data-spot]");
    if (!cell) return;
    keepTabStop(cell);
    state.pointed = spotOf(cell);
    clearTimeout(hover);
    if (event.target === cell) showNumber(state.pointed);
  });
  grids.addEventListener("mousedown", () => showError(null));
  grids.addEventListener("dblclick", (event) => {
    const cell = event.target.closest("[data-spot]");
    if (cell) edit(cell);
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("copy", onCopy);
  addEventListener("popstate", ({ state: then }) => {
    if (!then) return keep();                         // a link within the page
    state.step = then.step;
    return apply(then.changes, new URLSearchParams(location.search).get("subject") ?? state.subject, "replaceState");
  });
  find("subject").addEventListener("change", (event) => {
    state.step = null;
    apply({}, event.target.value);
  });
  find("part").addEventListener("change", (event) => {
    state.step = null;
    apply({ ...state.changes, part: event.target.value });
  });
  find("switches").addEventListener("submit", (event) => event.preventDefault());
  find("first").addEventListener("click", () => stepTo(1));
  find("previous").addEventListener("click", () => stepTo((state.step ?? 2) - 1));
  find("next").addEventListener("click", () => stepTo((state.step ?? 0) + 1));
  find("play").addEventListener("click", play);
  find("all").addEventListener("click", () => stepTo(null));
  find("step").addEventListener("input", (event) => stepTo(Number(event.target.value) || null));
  find("language").addEventListener("click", () => {
    otherLanguage();
    draw();
    keep();
  });
  find("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    keep();
  });
}

listen();
writeLabels();
if (kept.theme) document.documentElement.dataset.theme = kept.theme;
if (isSaved) draw();
else apply(state.changes).then(() => state.page ?? apply({}));
