// What is shown: the subject, its changes and its page. A saved page has its data in it; else the server is asked.

import { given, kept, label, language } from "./dom.js";

export const isSaved = given.page !== null;

const asked = new URLSearchParams(location.search);

export const state = {
  subject: given.page?.subject ?? asked.get("subject") ?? "v5",
  changes: kept.changes ?? (asked.get("word") ? { word: asked.get("word") } : {}),
  page: given.page,
  step: kept.step ?? null,                          // null shows everything
  pointed: null,                                    // the number that was clicked or has the focus
};

const known = new Map();

// Ask the server. An error of the server has the words for the reader.
async function ask(action, body) {
  const answer = await fetch(action, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ subject: state.subject, changes: state.changes, ...body }),
  }).catch(() => { throw new Error(label("no_server", { subject: state.subject })); });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

// Take a subject and changes, if the server can; otherwise nothing changes, and the error says why.
export async function change(subject, changes) {
  if (isSaved) return;
  const before = [state.subject, state.changes];
  [state.subject, state.changes] = [subject, changes];
  try {
    const page = await ask("build", {});
    if (state.changes === changes) {                // else a later change has overtaken this one
      state.page = page;
      known.clear();
    }
  } catch (error) {
    if (state.changes === changes) [state.subject, state.changes] = before;
    throw error;
  }
}

// Write down what a reload, and Back and Forward of the browser, bring again.
export function keep(how = "replaceState") {
  const { subject, changes, step } = state, { theme } = document.documentElement.dataset;
  history[how]({ changes, step, theme, language }, "", isSaved ? undefined : `?subject=${subject}`);
}

// The changes with one number more.
export function withNumber(name, index, number) {
  const numbers = state.changes.numbers ?? {};
  return { ...state.changes, numbers: { ...numbers, [name]: { ...numbers[name], [index.join(",")]: number } } };
}

export const isChanged = (name, index) => index.join(",") in (state.changes.numbers?.[name] ?? {});

export const valueNamed = (name) => state.page.values.find((value) => value.name === name);

export const place = (value, index, isGradient) => `${isGradient ? "d" : ""}|${value}|${index.join(",")}`;

// One number: its formula, what it is made of, and the complex step's value. null where a saved page has none.
export async function entry(name, index, isGradient) {
  const value = valueNamed(name);
  if (isSaved) {
    const found = state.page.entries[isGradient ? "gradient" : "value"][name]?.[index.join(",")];
    const lines = isGradient ? value.gradient_lines : value.lines;
    return found ? { ...found, line: lines.at(-1) ?? null } : null;
  }
  const key = place(name, index, isGradient);
  if (!known.has(key)) known.set(key, await ask("entry", { name, index, is_gradient: isGradient }));
  return known.get(key);
}
