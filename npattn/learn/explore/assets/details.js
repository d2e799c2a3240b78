// The number that is pointed at: its formula with names and with numbers, and what the complex step says.

import { find, label, make } from "./dom.js";
import { fullNumber, shortNumber } from "./colours.js";
import { canChange, cellAt, light, whyNot } from "./matrices.js";
import { mark } from "./code.js";
import { entry, isSaved, state, valueNamed } from "./state.js";

let latest = 0;

function pieceOf(piece) {
  if (!piece.of) return piece.text;
  return make("button", { type: "button", class: "piece", onclick: () => cellAt(...piece.of)?.focus() }, piece.text);
}

// A formula is written over several lines: each "=" begins one.
function written(pieces) {
  const lines = [[]];
  for (const piece of pieces) {
    if (!piece.of && piece.text.startsWith(" = ")) lines.push([]);
    lines.at(-1).push(pieceOf(piece));
  }
  return lines.map((line) => make("div", { class: "formula-line" }, line));
}

function argumentText(value, isGradient) {
  const text = label(isGradient ? "given_gradient" : value.role === "mask" ? "given_mask" : "given");
  return canChange(value, isGradient) || isSaved ? text : `${text} ${whyNot(value, isGradient)}`;
}

// The same as a double click, for fingers and screen readers.
function changeButton(spot) {
  const onclick = () => cellAt(...spot).dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
  return make("button", { type: "button", id: "change", title: label("how_to_change"), onclick }, label("change"));
}

// A number with all its digits; of a gradient, what the complex step says too.
function checkOf(found) {
  if (typeof found.number !== "number") return [];
  if (typeof found.complex_step !== "number") {
    return [make("dl", {}, make("dt", {}, label("all_digits")), make("dd", {}, fullNumber(found.number)))];
  }
  return [make("dl", {},
    make("dt", {}, label("backward_says")), make("dd", {}, fullNumber(found.number)),
    make("dt", {}, label("complex_step")), make("dd", {}, fullNumber(found.complex_step)),
    make("dt", {}, label("difference")), make("dd", {}, shortNumber(found.difference)))];
}

// Without a number, the line of the step stays marked.
const lineOfStep = () => (state.step ? state.page.steps[state.step - 1].line : null);

// Show a number: [name, index, isGradient]. null shows nothing.
export async function showNumber(spot) {
  const mine = ++latest, details = find("details");
  details.removeAttribute("aria-busy");
  if (!spot) {
    light(null);
    mark(lineOfStep());
    find("formula").replaceChildren(make("p", { class: "faint" }, label("point")));
    find("check").replaceChildren();
    return;
  }
  light(spot, []);
  find("formula").replaceChildren(make("div", {}, cellAt(...spot)?.getAttribute("aria-label") ?? ""));
  find("check").replaceChildren();
  details.setAttribute("aria-busy", "true");
  let found;
  try {
    found = await entry(...spot);
  } catch (error) {
    found = { error: error.message };
  }
  if (mine !== latest) return;                      // the reader points at another number by now
  details.removeAttribute("aria-busy");
  const [name, index, isGradient] = spot, value = valueNamed(name);
  const own = cellAt(...spot)?.getAttribute("aria-label") ?? "";
  const text = found?.error ?? (found?.formula.length ? null : argumentText(value, isGradient));
  const formula = found && !found.error && found.formula.length ? written(found.formula) : [make("div", {}, own)];
  const isLeftOut = isSaved && state.page.left_out.includes(name);
  const note = isLeftOut ? label("no_entry") : text;
  light(spot, found?.from ?? []);
  find("formula").replaceChildren(...formula, ...(note ? [make("p", { class: "faint" }, note)] : []),
    ...(canChange(value, isGradient) ? [changeButton(spot)] : []));
  find("check").replaceChildren(...(found?.formula?.length ? checkOf(found) : []));
  mark(found?.line ?? lineOfStep());                        // at the end: the column has its height now
}

// What a step makes: its line, and its numbers if no matrix of the page has them.
export function showStep() {
  const { step, page } = state, all = page.steps;
  find("step").max = all.length;
  find("step").value = step ?? 0;
  const here = step ? all[step - 1] : null;
  const place = here && label("step_text", {
    step, all: all.length, way: label(here.is_gradient ? "backward" : "forward"), code: here.line.code,
  });
  find("step").setAttribute("aria-valuetext", place ?? label("everything_shown"));
  const sums = here?.sums && make("strong", { class: "sums" }, label("sums"));
  const numbers = here && !here.value && here.numbers !== null
    && make("span", { class: "shape" }, `${here.name} = ${rowsOf(here.numbers)}`);
  find("step-text").replaceChildren(...[place ?? label("everything_shown"), sums, numbers].filter(Boolean));
  const made = new Set(all.slice(0, step ?? all.length).map((each) => `${each.is_gradient}|${each.value}`));
  const later = new Set(all.slice(step ?? all.length).map((each) => `${each.is_gradient}|${each.value}`));
  for (const half of document.querySelectorAll(".half")) {
    const isGradient = half.classList.contains("gradient");
    const key = `${isGradient}|${half.closest(".card").dataset.value}`;
    half.classList.toggle("future", step !== null && later.has(key) && !made.has(key));
    half.classList.toggle("now", Boolean(here?.value) && key === `${here.is_gradient}|${here.value}`);
    half.classList.toggle("summed", Boolean(here?.value && here.sums) && half.classList.contains("now"));
  }
  if (here) mark(here.line);
  document.querySelector(".now")?.scrollIntoView({ block: "nearest" });
}

function rowsOf(numbers) {
  if (!Array.isArray(numbers)) return shortNumber(numbers);
  return `[${numbers.map(rowsOf).join(", ")}]`;
}
