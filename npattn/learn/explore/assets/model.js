// What a trained model has besides its matrices: the word, the likeliest next symbols, and what each leans on.

import { find, label, make } from "./dom.js";
import { shortNumber } from "./colours.js";
import { isSaved, state } from "./state.js";

const field = (name, value) => make("label", {}, label(name), " ",
  make("input", { name, value, disabled: isSaved, autocomplete: "off", spellcheck: "false" }));

function wordForm(submit) {
  const { word, target } = state.page;
  const asked = state.changes.target ?? "";
  const form = make("form", {}, field("word", word), field("target", asked),
    make("button", { type: "submit", disabled: isSaved }, label("read")),
    make("span", { class: "answer" }, `${word} → ${target.join(" ")}`));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const data = new FormData(form);
    submit({ ...state.changes, word: data.get("word"), target: data.get("target") || null });
  });
  return form;
}

const percent = (p) => `${(100 * p).toFixed(p < 0.1 ? 1 : 0)}\u00a0%`;

function bar(share, text) {
  const element = make("span", { class: "share" });
  element.style.width = `${Math.max(1, 100 * share)}%`;
  return make("td", { class: "bar-cell", title: text }, element, make("span", { class: "share-text" }, text));
}

function probabilities() {
  const columns = state.page.probabilities.map(({ symbol, next }) => make("table", { class: "next" },
    make("caption", {}, label("instead_of"), " ", make("strong", {}, symbol)),
    next.map((each) => make("tr", { class: each.symbol === symbol ? "chosen" : null },
      make("th", { scope: "row" }, each.symbol), bar(each.p, percent(each.p))))));
  return [make("h2", {}, label("probabilities")), make("div", { class: "columns" }, columns)];
}

function leans() {
  const { leans: rows, source, target } = state.page;
  const largest = rows.flat().reduce((a, b) => Math.max(a, b), 0) || 1;
  const cell = (x) => {
    const element = make("td", { title: String(x) }, shortNumber(Number(x.toPrecision(2))));
    element.style.background = `color-mix(in srgb, var(--plus) ${Math.round(62 * x / largest)}%, var(--cell))`;
    return element;
  };
  return [make("h2", {}, label("leans")), make("p", { class: "faint" }, label("leans_text")),
    make("div", { class: "scroll" }, make("table", { class: "leans", "aria-label": label("leans") },
      make("tr", {}, make("td"), source.map((s) => make("th", { scope: "col" }, s))),
      rows.map((row, i) => make("tr", {}, make("th", { scope: "row" }, target[i]), row.map(cell)))))];
}

export function drawModel(submit) {
  const isModel = state.page.word !== null;
  find("model").hidden = !isModel;
  find("model").replaceChildren(...(isModel ? [
    wordForm(submit), make("div", { class: "panels" }, make("div", {}, probabilities()), make("div", {}, leans())),
  ] : []));
}
