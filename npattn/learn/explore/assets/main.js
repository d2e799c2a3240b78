// Puts the page together, and listens to the reader.

import { find, label, make, otherLanguage, writeLabels } from "./dom.js";
import { drawLegend, fitScales, shortNumber } from "./colours.js";
import { change, isSaved, state, valueNamed, withNumber } from "./state.js";
import { canChange, cellAt, drawMatrices, keepTabStop, move, nameOfChange, spotOf } from "./matrices.js";
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
  find("title").textContent = page.title;
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
  const loss = make("span", { class: "loss" }, `${label(state.page.word === null ? "loss" : "loss_model", state.page)} = `,
    make("strong", {}, shortNumber(state.page.loss)));
  const reset = make("button", {
    type: "button", id: "reset", hidden: isSaved || Object.keys(state.changes).length === 0, onclick: () => apply({}),
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
  stop();
  if (state.step !== null) state.step = Math.min(state.step, state.page.steps.length);
  if (state.pointed && !cellAt(...state.pointed)) state.pointed = null;
  showNumber(state.pointed);
  showStep();
}

function showError(error) {
  find("error").hidden = !error;
  find("error").textContent = error ? error.message : "";
}

// Take changes, draw the page again, and put the focus back where it was.
async function apply(changes, subject = state.subject) {
  document.body.setAttribute("aria-busy", "true");
  const spot = spotOf(document.activeElement?.closest("[data-spot]")), id = document.activeElement?.id;
  const name = document.activeElement?.name;
  try {
    await change(subject, changes);
    showError(null);
  } catch (error) {
    showError(error);
  }
  document.body.removeAttribute("aria-busy");
  if (!state.page) return;
  draw();
  const again = spot ? cellAt(...spot) : find(id) ?? (name && document.querySelector(`form [name="${name}"]`));
  again?.focus({ preventScroll: true });
}

// Write a new number into a cell. Enter takes it, Escape leaves the old one.
function edit(cell) {
  const [name, index, isGradient] = spotOf(cell), value = valueNamed(name);
  if (!canChange(value, isGradient) || cell.querySelector("input")) return;
  const array = nameOfChange(name, isGradient);
  let old = isGradient ? value.gradient : value.numbers;
  for (const i of index) old = old[i];
  if (typeof old === "boolean") {
    apply(withNumber(array, index, !old));
    return;
  }
  const input = make("input", { value: String(old), inputmode: "decimal", "aria-label": label("new_number") });
  const before = [...cell.childNodes];
  let isOpen = true;
  const close = (takes) => {
    if (!isOpen) return;
    isOpen = false;
    const text = input.value.trim().replace("−", "-").replace(",", ".");
    cell.replaceChildren(...before);
    cell.focus({ preventScroll: true });
    if (!takes) return;
    if (text === "" || Number.isNaN(Number(text))) showError(new Error(label("no_number", { text: input.value })));
    else if (Number(text) !== old) apply(withNumber(array, index, Number(text)));
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" || event.key === "Escape") close(event.key === "Enter");
  });
  input.addEventListener("blur", () => close(false));
  cell.replaceChildren(input);
  input.select();
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
}

function onKey(event) {
  if (event.altKey || event.metaKey || !state.page) return;
  const cell = event.target.closest("[data-spot]");
  if (!cell) return;
  const moves = ["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Home", "End"];
  if (moves.includes(event.key)) move(cell, event.key, event.ctrlKey);
  else if (event.key === "Enter" || event.key === "F2" || event.key === " ") edit(cell);
  else if (event.key === "n") stepTo((state.step ?? 0) + 1);
  else if (event.key === "p") stepTo((state.step ?? 2) - 1);
  else if (event.key === "Escape") {
    state.pointed = null;
    showNumber(null);
    stepTo(null);
  } else return;
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
  grids.addEventListener("dblclick", (event) => {
    const cell = event.target.closest("[data-spot]");
    if (cell) edit(cell);
  });
  document.addEventListener("keydown", onKey);
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
  });
  find("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  });
}

listen();
writeLabels();
if (isSaved) draw();
else apply({});
