// Small helpers: elements, and labels in the language that is chosen.

export const given = JSON.parse(document.getElementById("data").textContent);

export const find = (id) => document.getElementById(id);

// An element with attributes, listeners ("onclick") and children; what is null or false is left out.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

// MathML comes as a text. The page's policy lets no script in it run.
export function math(text) {
  const element = make("span", { class: "math", lang: "en" });
  element.innerHTML = text;
  return element;
}

// What a reload of the page keeps: language, theme, changes, step.
export const kept = history.state ?? {};

export let language = kept.language ?? (navigator.language.startsWith("zh") ? "zh" : "en");

// A label; {name} in it becomes the value of that name.
export function label(key, values = {}) {
  const text = given.labels[language][key] ?? given.labels.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// Write the labels of the elements that are always there.
export function writeLabels() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-label]")) element.textContent = label(element.dataset.label);
  for (const element of document.querySelectorAll("[data-aria]")) {
    element.setAttribute("aria-label", label(element.dataset.aria));
  }
  find("language").textContent = language === "zh" ? "English" : "中文";
  find("language").lang = language === "zh" ? "en" : "zh-CN";
}

export function otherLanguage() {
  language = language === "zh" ? "en" : "zh";
}
