/** The sliders: what each may say, how its position stands for its value, and the address that holds them all. */

import type { Loss, Settings } from "./problem";

export type Field = Exclude<keyof Settings, "loss">;

export interface Slider {
  field: Field;
  /** The letter in addresses. */
  key: string;
  label: string;
  help: string;
  low: number;
  high: number;
  /** Positions of the slider, and the step between them. */
  from: number;
  to: number;
  step: number;
  value(position: number): number;
  position(value: number): number;
  whole: boolean;
}

/** Three digits, so that what the page shows is what it computes. */
function short(x: number): number {
  return Number(x.toPrecision(3));
}

const identity = (x: number): number => Number(x.toFixed(6));
const power = (x: number): number => short(10 ** x);
const linear = { value: identity, position: identity, whole: false };
const decades = { value: power, position: Math.log10, whole: false };

export const SLIDERS: Slider[] = [
  {
    field: "ratio", key: "R", label: "Imbalance ratio R",
    help: "samples of a majority class over those of a minority class",
    low: 1, high: 1e9, from: 0, to: 9, step: 0.05, ...decades,
  },
  {
    field: "exponent", key: "g", label: "Weight exponent g",
    help: "class weights go as 1 / (class size)^g; 0 is ERM, 1 inverse frequency",
    low: 0, high: 2, from: 0, to: 2, step: 0.01, ...linear,
  },
  {
    field: "coupling", key: "c", label: "Coupling c",
    help: "how far training a sample moves the features of its class; 0 not at all, 1 as its own",
    low: 0, high: 1, from: 0, to: 1, step: 0.01,
    value: (x) => short(x ** 4), position: (c) => c ** 0.25, whole: false,
  },
  {
    field: "classes", key: "k", label: "Classes k",
    help: "majorities and minorities together",
    low: 2, high: 20, from: 2, to: 20, step: 1, ...linear, whole: true,
  },
  {
    field: "fraction", key: "rho", label: "Minority fraction ρ",
    help: "of the classes; at least one class, and not all",
    low: 0.05, high: 0.95, from: 0.05, to: 0.95, step: 0.05, ...linear,
  },
  {
    field: "smallest", key: "n", label: "Minority class size",
    help: "samples of a minority class; a majority class has R times as many",
    low: 1, high: 1000, from: 0, to: 3, step: 0.05,
    value: (x) => Math.round(10 ** x), position: Math.log10, whole: true,
  },
  {
    field: "scale", key: "s", label: "Start’s size",
    help: "scale of the first weights and features; each component starts at its square",
    low: 1e-8, high: 0.3, from: -8, to: -0.5, step: 0.1,
    value: (x) => Math.min(power(x), 0.3), position: Math.log10, whole: false,
  },
];

export const DEFAULTS: Settings = {
  ratio: 100,
  fraction: 0.5,
  classes: 10,
  smallest: 5,
  exponent: 0.5,
  coupling: 0,
  scale: 1e-3,
  loss: "cross_entropy",
};

/** The settings, and the time at which the matrices stand where the address says one, of an address' fragment. */
export function fromAddress(fragment: string): { settings: Settings; time: number | null } {
  const said = new URLSearchParams(fragment.replace(/^#/, ""));
  const settings = { ...DEFAULTS };
  for (const { key, field, low, high, whole } of SLIDERS) {
    const value = Number.parseFloat(said.get(key) ?? "");
    if (!Number.isFinite(value)) continue;
    const within = Math.min(Math.max(value, low), high);
    settings[field] = whole ? Math.round(within) : within;
  }
  const loss = said.get("loss");
  if (loss === "squared" || loss === "cross_entropy") settings.loss = loss satisfies Loss;
  const time = Number.parseFloat(said.get("t") ?? "");
  return { settings, time: time > 0 && Number.isFinite(time) ? time : null };
}

/** The fragment that stands for a view. */
export function toAddress(settings: Settings, time: number | null): string {
  const said = new URLSearchParams();
  for (const { key, field } of SLIDERS) said.set(key, String(settings[field]));
  said.set("loss", settings.loss);
  if (time !== null) said.set("t", String(Number(time.toPrecision(6))));
  return `#${said}`;
}

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A number of three digits for people: 1,000, 0.25, 3.16·10⁶. */
export function shown(x: number, digits = 3): string {
  if (Number.isNaN(x)) return "–";
  if (x === 0 || !Number.isFinite(x)) return x === 0 ? "0" : "∞";
  const exponent = Math.floor(Math.log10(Math.abs(x)) + 1e-12);
  if (exponent >= 5 || exponent < -2) {
    const mantissa = Number((x / 10 ** exponent).toPrecision(digits));
    const raised = [...String(Math.abs(exponent))].map((d) => RAISED[Number(d)]).join("");
    const power = `10${exponent < 0 ? "⁻" : ""}${raised}`;
    return mantissa === 1 ? power : `${mantissa}·${power}`;
  }
  return Number(x.toPrecision(Math.max(digits, exponent + 1))).toLocaleString("en");
}
