// The matrices in the order of the formula, each with its gradient beneath it: grids that arrow keys move through.

import { find, label, make, math } from "./dom.js";
import { fullNumber, paint, scaleOf, shortNumber } from "./colours.js";
import { isChanged, isSaved, place, state } from "./state.js";

const cells = new Map();

export const cellAt = (name, index, isGradient) => cells.get(place(name, index, isGradient));

export const spotOf = (cell) => cell && JSON.parse(cell.dataset.spot);

// Why a number can't be changed.
export function whyNot(value, isGradient) {
  const { output, part, subject, word } = state.page;
  if (isSaved) return label("saved_notice", { subject });
  if (word !== null) return label("fixed_model");
  return label(part && (isGradient ? value.name === output : !value.lines.length) ? "fixed_part" : "fixed");
}

// Of a part of a layer, the parameters can be changed.
export function canChange(value, isGradient) {
  const { part, word, output } = state.page;
  if (isSaved || word !== null) return false;
  if (part) return !isGradient && value.can_change && /^(W_|b_|gamma$|beta$)/.test(value.name);
  return isGradient ? value.name === output : value.can_change;
}

// What changes["numbers"] calls the array: the gradient of the output is dY for every subject.
export function nameOfChange(name, isGradient) {
  return isGradient ? "dY" : state.page.part ? `${state.page.part}.${name}` : name;
}

// Rows of more numbers are drawn as narrow cells without text.
const WIDE = 40;

// Indices count from 1 in formulas, and so here.
function nameOfNumber(name, index) {
  const shown = /^[\p{L}\p{N}_.]+( \(\d+\))?$/u.test(name) ? name : `(${name})`;
  return index.length ? `${shown}[${index.map((i) => i + 1).join(",")}]` : shown;
}

function cellOf(value, index, isGradient, x, isNarrow) {
  const name = isGradient ? value.gradient_name : value.name;
  const changeable = canChange(value, isGradient);
  const cell = make("td", {
    role: "gridcell",
    tabindex: -1,
    "data-spot": JSON.stringify([value.name, index, isGradient]),
    "aria-label": `${nameOfNumber(name, index)} = ${fullNumber(x)}`,
    "aria-readonly": String(!changeable),
    title: fullNumber(x),
    class: [changeable && "changeable", isChanged(nameOfChange(value.name, isGradient), index) && "changed",
      x === false && "hidden-by-mask", isNarrow && "narrow"].filter(Boolean).join(" ") || null,
  }, isNarrow ? null : shortNumber(x));
  paint(cell, x, scaleOf(value, isGradient));
  cells.set(place(value.name, index, isGradient), cell);
  return cell;
}

// The symbols of the word beside the rows and above the columns of attention's weights and scores, in a model.
function symbolsOf(value) {
  const { page } = state;
  const read = page.source, written = page.target;
  if (!read || !/^(a|A|E|e)\b/.test(value.name) || value.shape.length < 2) return [];
  const before = ["<bos>", ...written.slice(0, -1)];
  if (page.part.endsWith("cross_attention")) return [written, read];
  return page.part.startsWith("encoder") ? [read, read] : [written, before];
}

function tableOf(value, numbers, index, isGradient, caption) {
  const rows = Array.isArray(numbers) ? (Array.isArray(numbers[0]) ? numbers : [numbers]) : [[numbers]];
  const isMatrix = Array.isArray(numbers?.[0]);
  const at = (i, j) => (isMatrix ? [...index, i, j] : Array.isArray(numbers) ? [...index, j] : index);
  const isNarrow = rows[0].length > WIDE, numbered = (list) => list.map((_, i) => i + 1);
  const [down, across] = symbolsOf(value), kind = across ? null : "index";
  const beside = (row, i) => isMatrix && make("th", { scope: "row", class: kind }, String((down ?? numbered(rows))[i]));
  const above = Array.isArray(numbers) && !isNarrow && make("tr", { role: "row" }, isMatrix && make("td", { role: "presentation" }),
    (across ?? numbered(rows[0])).map((each) => make("th", { scope: "col", class: kind }, String(each))));
  const body = rows.map((row, i) => make("tr", { role: "row" },
    beside(row, i), row.map((x, j) => cellOf(value, at(i, j), isGradient, x, isNarrow))));
  const table = make("table", { role: "grid", "aria-label": caption }, above, body);
  table.querySelector("[data-spot]")?.setAttribute("tabindex", 0);
  return table;
}

// Matrices of more than two axes are drawn one behind the other, with their place.
function slices(value, numbers, index, isGradient, name) {
  const depth = (x) => (Array.isArray(x) ? 1 + depth(x[0]) : 0);
  if (depth(numbers) > 2) return numbers.flatMap((each, i) => slices(value, each, [...index, i], isGradient, name));
  const where = index.length ? `[${index.map((i) => i + 1).join(",")},…]` : "";
  const axis = value.axes.at(-3);
  const caption = where && make("span", { class: "slice" }, axis === "H" && (!isGradient || String(value.gradient_shape) === String(value.shape))
    ? `${label("head")} ${index.at(-1) + 1}` : where);
  return [make("div", { class: "scroll" }, caption, tableOf(value, numbers, index, isGradient, `${name}${where}`))];
}

function half(value, isGradient) {
  const numbers = isGradient ? value.gradient : value.numbers;
  const name = isGradient ? value.gradient_name : value.name;
  const shape = isGradient ? value.gradient_shape : value.shape;
  const isNew = isGradient ? value.gradient_is_new : value.is_new;
  const formula = isGradient ? value.gradient_mathml : value.formula_mathml;
  const axes = value.axes.length ? `${value.axes.join(" × ")} = ` : "";
  const head = make("div", { class: "head" },
    make(isGradient ? "h3" : "h2", { title: / \(\d/.test(name) ? label("again", { name: name.split(" (")[0] }) : null }, name),
    make("span", { class: "shape" }, `${isGradient ? "" : axes}${shape.join(" × ") || label("scalar")}`),
    isNew && make("span", { class: "new", title: label("new_title", { before: state.page.before }) }, label("new")),
    isGradient && value.gradient_by !== "backward" && make("span", { class: "by" }, label("by_complex_step")),
    !isGradient && make("span", { class: "role" }, label(`role_${value.role}`)));
  const body = numbers === null ? make("p", { class: "faint" }, label("too_many"))
    : make("div", { class: "slices" }, slices(value, numbers, [], isGradient, name));
  return make("div", { class: isGradient ? "gradient half" : "value half", "data-half": name },
    head, formula && math(formula), body);
}

// Not for a value that only backward has.
const hasNumbers = ({ numbers, role, lines }) => numbers !== null || role !== "computed" || lines.length > 0;

function card(value) {
  return make("article", { class: `card ${value.role}`, "data-value": value.name, "aria-label": value.name },
    hasNumbers(value) && half(value, false),
    value.gradient_shape && half(value, true));
}

export function drawMatrices() {
  cells.clear();
  const isEmpty = ({ shape }) => shape.includes(0), { values } = state.page;
  const shown = values.filter((value) => !isEmpty(value));
  const left = values.filter(isEmpty).map((value) => `${value.name} (${value.shape.join(" × ")})`).join(", ");
  find("matrices").replaceChildren(...shown.map(card), ...(left ? [make("p", { class: "faint" }, label("empty", { left }))] : []));
  find("names").replaceChildren(...shown.map((value) =>
    make("button", { type: "button", onclick: () => jump(value.name) }, hasNumbers(value) ? value.name : value.gradient_name)));
}

// Go to a matrix. Its first number gets the focus, where it has any.
function jump(name) {
  const found = document.querySelector(`[data-value="${CSS.escape(name)}"]`);
  found.scrollIntoView({ block: "start" });
  found.querySelector("[data-spot]")?.focus({ preventScroll: true });
}

// Light up the number that is pointed at, and those that make it.
export function light(spot, sources) {
  for (const cell of document.querySelectorAll(".lit, .here")) cell.classList.remove("lit", "here");
  if (!spot) return;
  for (const source of sources) cellAt(...source)?.classList.add("lit");
  cellAt(...spot)?.classList.add("here");
}

// Arrow keys, Home and End move between the numbers of a grid; beyond its edge to the one below or above.
export function move(cell, key, toEnd) {
  const table = cell.closest("table");
  const rows = [...table.rows].map((row) => [...row.querySelectorAll("[data-spot]")]).filter((row) => row.length);
  const i = rows.findIndex((row) => row.includes(cell)), j = rows[i].indexOf(cell);
  const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[key] ?? [0, 0];
  let next = rows[i + down]?.[j + right];
  if (key === "Home") next = (toEnd ? rows[0] : rows[i])[0];
  if (key === "End") next = (toEnd ? rows.at(-1) : rows[i]).at(-1);
  if (!next && down) {
    const tables = [...document.querySelectorAll("#matrices table")];
    const other = tables[tables.indexOf(table) + down];
    const edge = other && [...other.querySelectorAll("tr:has([data-spot])")].at(down > 0 ? 0 : -1);
    const found = edge && edge.querySelectorAll("[data-spot]");
    next = found && (found[j] ?? found[found.length - 1]);
  }
  next?.focus();
}

// One number of each grid is reached by Tab: the last that had the focus.
export function keepTabStop(cell) {
  for (const other of cell.closest("table").querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  cell.tabIndex = 0;
}
