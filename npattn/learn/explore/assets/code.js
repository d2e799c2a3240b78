// The code that runs, with the line of the number marked.

import { find, make } from "./dom.js";
import { state } from "./state.js";

// Words that Python knows, comments and texts are told apart by their colour alone.
const TOKEN = /(#.*$)|\b(def|return|if|else|for|in|not|and|or|is|None|True|False|with|import|from|lambda)\b/g;

// Whether each line belongs to a docstring.
function inText(lines) {
  let isOpen = false;
  return lines.map((line) => {
    const marks = line.split('"""').length - 1, was = isOpen;
    if (marks === 1) isOpen = !isOpen;
    return was || marks > 0;
  });
}

function coloured(line, isText) {
  if (isText) return make("span", { class: "text" }, line);
  const parts = [];
  let end = 0;
  for (const found of line.matchAll(TOKEN)) {
    parts.push(line.slice(end, found.index), make("span", { class: found[1] ? "comment" : "keyword" }, found[0]));
    end = found.index + found[0].length;
    if (found[1]) break;
  }
  return [...parts, line.slice(end)];
}

export function drawCode() {
  const blocks = [];
  for (const [file, places] of Object.entries(state.page.shown)) {
    blocks.push(make("h2", { class: "file" }, file));
    for (const [first, last] of places) {
      const texts = state.page.code[file].slice(first - 1, last), isText = inText(texts);
      const lines = texts.map((text, i) =>
        make("div", { class: "line", "data-line": `${file}:${first + i}` },
          make("span", { class: "line-number", "aria-hidden": "true" }, String(first + i)),
          make("code", {}, coloured(text, isText[i]))));
      blocks.push(make("div", { class: "function", lang: "en", tabindex: 0, role: "group", "aria-label": file }, lines));
    }
  }
  find("code").replaceChildren(...blocks);
}

// Mark a line and bring it into view within its column.
export function mark(line) {
  for (const other of document.querySelectorAll(".line[aria-current]")) other.removeAttribute("aria-current");
  const found = line && document.querySelector(`.line[data-line="${line.file}:${line.number}"]`);
  if (!found) return;
  found.setAttribute("aria-current", "true");
  const column = find("code"), top = found.offsetTop;
  const height = Math.min(column.clientHeight, innerHeight - column.getBoundingClientRect().top);   // what is seen
  const isSeen = top >= column.scrollTop && top + 2 * found.offsetHeight <= column.scrollTop + height;
  if (!isSeen) column.scrollTop = top - height / 2;
}
