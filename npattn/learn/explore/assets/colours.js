// Colours of numbers: orange above 0, blue below. Small numbers get more colour than their share, by a square root.
// Values, gradients and weights have a scale each, the same in all matrices.

import { find, label, make } from "./dom.js";

const scales = { values: 1, gradients: 1, weights: 1 };

// The weights of attention are parts of 1.
const isWeight = (value) => /^(a|A)( \(\d+\))?$/.test(value.name);

export const scaleOf = (value, isGradient) => (isGradient ? "gradients" : isWeight(value) ? "weights" : "values");

export const flat = (numbers) => (Array.isArray(numbers) ? numbers.flat(Infinity) : [numbers]);

const largestOf = (numbers) =>
  numbers.filter((x) => typeof x === "number").reduce((most, x) => Math.max(most, Math.abs(x)), 0) || 1;

export function fitScales(page) {
  scales.values = largestOf(page.values.filter((value) => !isWeight(value)).flatMap((value) => flat(value.numbers)));
  scales.gradients = largestOf(page.values.flatMap((value) => flat(value.gradient)));
}

export function paint(element, x, scale) {
  if (typeof x !== "number") return;
  const share = Math.round(62 * Math.sqrt(Math.min(1, Math.abs(x) / scales[scale])));
  element.style.background = `color-mix(in srgb, var(${x < 0 ? "--minus" : "--plus"}) ${share}%, var(--cell))`;
}

// A number as the page writes it: short, with a true minus sign.
export function shortNumber(x) {
  if (x === null) return "—";
  if (x === "-inf") return "−∞";
  if (typeof x === "boolean") return x ? "1" : "0";
  const size = Math.abs(x);
  const text = size !== 0 && (size < 0.0005 || size >= 100000) ? x.toExponential(1) : String(Number(x.toPrecision(3)));
  return text.replace("-", "−").replace("-", "−");
}

export function fullNumber(x) {
  return typeof x === "number" ? String(x).replaceAll("-", "−") : shortNumber(x);
}

const SHARES = [-1, -0.5, -0.125, 0, 0.125, 0.5, 1];

export function drawLegend(page) {
  const hasWeights = page.values.some(isWeight);
  const shown = Object.entries(scales).filter(([scale]) => scale !== "weights" || hasWeights);
  const bars = shown.map(([scale, largest]) => {
    const cells = SHARES.filter((share) => share >= 0 || scale !== "weights").map((share) => {
      const cell = make("span", {}, shortNumber(Number((share * largest).toPrecision(2))));
      paint(cell, share * largest, scale);
      return cell;
    });
    return make("span", { class: "scale" }, label(`scale_${scale}`), make("span", { class: "bar" }, cells));
  });
  find("legend").replaceChildren(...bars);
}
