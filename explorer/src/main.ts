/** The page: sliders in, curves out. */

import "./style.css";

import { Chart, forgetColors, type Drawing } from "./charts";
import { commands, table } from "./command";
import { drawMatrix } from "./matrix";
import { viewOf, type Curves, type View } from "./model";
import { picture, png, type Column } from "./picture";
import { Player } from "./player";
import { balance, problemOf, spectrum, type Loss, type Settings } from "./problem";
import { DEFAULTS, fromAddress, shown, SLIDERS, toAddress } from "./settings";
import { spectrumPicture } from "./spectrumChart";
import { balanceInWords, chartInWords, delayInWords, summary } from "./words";

const $ = <T extends Element = HTMLElement>(selector: string, within: ParentNode = document): T =>
  within.querySelector<T>(selector)!;

const GROUPS = ["majority", "cross", "minority"] as const;
const QUIET = 600; // milliseconds without a change after which the page is described anew

let settings: Settings = { ...DEFAULTS };
let view: View;
let drawings: [Column, Column];
/** Where the matrices stand, as a share of the logarithm of the times shown. */
let position = 0.5;
let due = 0;
let describing = 0;

/** One weighting's charts, matrix and numbers. */
class RunColumn {
  readonly strengths: Chart;
  readonly margins: Chart;
  private readonly canvas: HTMLCanvasElement;
  private readonly shares: HTMLElement;

  constructor(readonly root: HTMLElement) {
    const onTime = (time: number) => stand(positionOf(time));
    this.strengths = new Chart($(".strengths", root), 230, ["majority", "cross", "minority"], onTime);
    this.margins = new Chart($(".margins", root), 160, ["majority", "minority"], onTime);
    this.canvas = $(".matrix", root);
    this.shares = $(".shares", root);
    this.shares.innerHTML = GROUPS.filter((group) => group !== "cross")
      .map((group) => {
        const rows = ["itself", `another ${group}`, `a ${group === "majority" ? "minority" : "majority"}`];
        return `<dt class="group ${group}">${group}, predicted as</dt>${rows.map((row) => `<dt>${row}</dt><dd></dd>`).join("")}`;
      })
      .join("");
  }

  draw(column: Column): void {
    this.strengths.draw(column.strengths);
    this.margins.draw(column.margins);
  }

  describe(curves: Curves): void {
    $(".strengths", this.root).setAttribute("aria-label", chartInWords(curves, false));
    $(".margins", this.root).setAttribute("aria-label", chartInWords(curves, true));
  }

  stand(curves: Curves, time: number): void {
    this.strengths.stand(time);
    this.margins.stand(time);
    const predicted = curves.predicted(time);
    const { sizes } = curves.problem;
    drawMatrix(this.canvas, predicted, sizes);
    const numbers = this.shares.querySelectorAll("dd");
    const several = [sizes[0] > 1, sizes[1] > 1];
    [0, 1].forEach((g) => {
      const values = [predicted.own[g]!, several[g] ? predicted.same[g]! : NaN, predicted.other[g]!];
      values.forEach((value, i) => {
        numbers[3 * g + i]!.textContent = Number.isNaN(value) ? "–" : (Math.abs(value) < 5e-4 ? 0 : value).toFixed(3);
      });
    });
    this.canvas.setAttribute(
      "aria-label",
      `Mean predictions at t = ${shown(time)}: a majority class is taken for itself by ${predicted.own[0].toFixed(2)}, a minority class by ${predicted.own[1].toFixed(2)}.`,
    );
  }

  recolor(): void {
    this.strengths.recolor();
    this.margins.recolor();
  }
}

const span = (): [number, number] => [view.times[0]!, view.times[view.times.length - 1]!];

function timeOf(share: number): number {
  const [low, high] = span();
  return low * (high / low) ** share;
}

function positionOf(time: number): number {
  const [low, high] = span();
  return Math.min(Math.max(Math.log(time / low) / Math.log(high / low), 0), 1);
}

/** The drawings of both weightings, on common axes. */
function drawingsOf({ times, erm, weighted, window, settings: { loss, exponent } }: View): [Column, Column] {
  const squared = loss === "squared";
  const highest = Math.max(...[erm, weighted].flatMap(({ margins }) => margins.map((m) => m[m.length - 1]!)), 1);
  const column = (curves: Curves, title: string): Column => {
    const common = { times, window };
    const strengths: Drawing = {
      ...common,
      top: squared ? 1.08 : 2,
      guides: [1],
      lines: GROUPS.map((group, i) => ({ group, values: curves.blocks[i]!, mark: curves.learned[i]! })),
    };
    const margins: Drawing = {
      ...common,
      top: 1.08 * highest,
      guides: squared ? [1] : [],
      lines: ([0, 2] as const).map((i) => ({
        group: GROUPS[i],
        values: curves.margins[i / 2]!,
        mark: curves.separated[i / 2]!,
      })),
    };
    return { title, strengths, margins };
  };
  return [column(erm, "Without weights (ERM)"), column(weighted, `With weights, g = ${exponent}`)];
}

/** Compute and draw everything for the present settings. */
function update(): void {
  due = 0;
  const begun = performance.now();
  view = viewOf(settings);
  const computed = performance.now();
  drawings = drawingsOf(view);
  columns.forEach((column, i) => column.draw(drawings[i]!));
  showNumbers();
  stand(position);
  performance.measure("compute", { start: begun, end: computed });
  performance.measure("update", { start: begun });
  clearTimeout(describing);
  describing = window.setTimeout(describe, QUIET);
}

/** Ask for an update with the next frame, once for all changes until then. */
function change(): void {
  showSliders();
  due ||= requestAnimationFrame(update);
}

function showNumbers(): void {
  const balanced = balanceInWords(settings);
  const put = (name: string, { value, aside }: { value: string; aside: string }) => {
    $(`#number-${name}`).textContent = value;
    $(`#aside-${name}`).textContent = aside;
  };
  put("balance", balanced);
  put("erm", delayInWords(view.erm));
  put("weighted", delayInWords(view.weighted));
  const [opens, closes] = view.window ?? [NaN, NaN];
  put("window", {
    value: view.window ? `${shown(opens, 2)} to ${shown(closes, 2)}` : "none",
    aside: view.window ? `closes ${shown(closes / opens)} times later than it opens` : "weights are no sooner",
  });
  const [large, small] = view.weighted.problem.weights;
  $("#weights").textContent = `g = ${settings.exponent}: samples count ${shown(large)} and ${shown(small)}`;
  const before = spectrum(problemOf(settings, 0));
  const after = spectrum(view.weighted.problem);
  $("#spectrum").innerHTML = spectrumPicture(before, after);
  $("#spectrum-rows").innerHTML = before
    .map(({ block, value, multiplicity }, i) =>
      multiplicity
        ? `<tr><th scope="row"><i class="line ${block}"></i>${block}</th><td>${multiplicity}</td><td>${shown(value)}</td><td>${shown(after[i]!.value)}</td></tr>`
        : "",
    )
    .join("");
}

/** What is said aloud, and what the address holds: once changes have come to rest. */
function describe(): void {
  const said = $("#said");
  const words = summary(view);
  if (said.textContent !== words) said.textContent = words;
  columns.forEach((column, i) => column.describe(i ? view.weighted : view.erm));
  $("#spectrum").setAttribute("aria-label", "Singular values before and after weights, as in the table.");
  showCommands();
  remember();
}

/** The commands, each flag with its value on one line. */
function showCommands(): void {
  const lines = commands(view).split("\n");
  $("#commands").innerHTML = lines
    .map((line) => line.split(/ (?=--)/).map((part) => `<span>${part}</span>`).join(" "))
    .join("\n");
}

function remember(): void {
  history.replaceState(null, "", toAddress(settings, timeOf(position)));
}

/** Put the matrices at a share of the logarithm of the times shown. */
function stand(share: number): void {
  position = share;
  const time = timeOf(share);
  columns.forEach((column, i) => column.stand(i ? view.weighted : view.erm, time));
  const slider = $<HTMLInputElement>("#time");
  slider.value = String(Math.round(1000 * share));
  slider.setAttribute("aria-valuetext", `t = ${shown(time)}`);
  $("#time-shown").textContent = `t = ${shown(time)}`;
}

const sliders = SLIDERS.map((slider) => {
  const root = document.createElement("div");
  root.className = "slider";
  const id = `slider-${slider.field}`;
  root.innerHTML =
    `<label for="${id}"><span>${slider.label}</span> <output for="${id}"></output></label>` +
    `<div class="track"><input type="range" id="${id}" min="${slider.from}" max="${slider.to}" step="${slider.step}" aria-describedby="${id}-help"></div>` +
    `<p id="${id}-help">${slider.help}</p>`;
  $("#sliders").append(root);
  const input = $<HTMLInputElement>("input", root);
  const output = $("output", root);
  input.addEventListener("input", () => {
    settings = { ...settings, [slider.field]: slider.value(Number(input.value)) };
    change();
  });
  return { slider, input, output };
});
const star = document.createElement("i");
star.className = "star";
$("#slider-exponent").after(star);

/** Put sliders, buttons and their words where the settings are. */
function showSliders(): void {
  for (const { slider, input, output } of sliders) {
    const value = settings[slider.field];
    input.value = String(slider.position(value));
    const words = slider.field === "fraction" ? fractionInWords() : shown(value);
    output.textContent = words;
    input.setAttribute("aria-valuetext", words);
  }
  for (const input of document.querySelectorAll<HTMLInputElement>("input[name=loss]")) {
    input.checked = input.value === settings.loss;
  }
  const { exponent } = balance(settings);
  star.hidden = exponent === null;
  if (exponent !== null) {
    // A thumb is 16 pixels wide, by which its centre stays within the track's ends.
    star.style.left = `calc(8px + (100% - 16px) * ${exponent / 2})`;
  }
  $<HTMLButtonElement>("#balance").disabled = exponent === null;
}

function fractionInWords(): string {
  const [, few] = problemOf(settings, 0).sizes;
  return `${shown(settings.fraction)}: ${few} of ${settings.classes}`;
}

/** Hand a file to the reader. */
function save(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Copy words, and say so on the button that was pressed. */
async function copy(button: HTMLElement, words: string): Promise<void> {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(words);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

function on(selector: string, act: (button: HTMLElement) => void): void {
  $(selector).addEventListener("click", (event) => act(event.currentTarget as HTMLElement));
}

/** Do first what is still due, so that what is kept is what is seen. */
function settle(): void {
  if (due) {
    cancelAnimationFrame(due);
    update();
  }
  remember();
}

function restore(): void {
  const said = fromAddress(location.hash);
  settings = said.settings;
  showSliders();
  update();
  const between = view.window ? Math.sqrt(view.window[0] * view.window[1]) : timeOf(0.6);
  stand(positionOf(said.time ?? between));
  clearTimeout(describing);
  describe();
}

const columns = (["erm", "weighted"] as const).map((run) => new RunColumn($(`[data-run=${run}]`)));
const player = new Player($<HTMLButtonElement>("#play"), () => position, stand, remember);

$("#settings").addEventListener("submit", (event) => event.preventDefault());
for (const input of document.querySelectorAll<HTMLInputElement>("input[name=loss]")) {
  input.addEventListener("change", () => {
    settings = { ...settings, loss: input.value as Loss };
    change();
  });
}
on("#balance", () => {
  const { exponent } = balance(settings);
  if (exponent === null) return;
  settings = { ...settings, exponent: Number(exponent.toFixed(3)) };
  change();
});
on("#reset", () => {
  settings = { ...DEFAULTS };
  change();
});
$("#time").addEventListener("input", (event) => {
  player.stop();
  stand(Number((event.target as HTMLInputElement).value) / 1000);
});
$("#time").addEventListener("change", remember);
document.addEventListener("pointerup", () => view && !due && remember());

on("#link", (button) => (settle(), void copy(button, location.href)));
on("#copy", (button) => (settle(), void copy(button, commands(view))));
on("#svg", () => (settle(), save("small-scale-model.svg", new Blob([picture(view, drawings, timeOf(position))], { type: "image/svg+xml" }))));
on("#png", () => (settle(), void png(picture(view, drawings, timeOf(position))).then((blob) => save("small-scale-model.png", blob))));
on("#csv", () => (settle(), save("small-scale-model.csv", new Blob([table(view)], { type: "text/csv" }))));
on("#sh", () => (settle(), save("small-scale-model.sh", new Blob([`${commands(view)}\n`], { type: "text/x-sh" }))));

/** The theme that was chosen before, on a browser that keeps what pages of files store. */
const theme = $<HTMLSelectElement>("#theme");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
function retheme(): void {
  const ofSystem = systemIsDark.matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme.value === "auto" ? ofSystem : theme.value;
  forgetColors();
  columns.forEach((column) => column.recolor());
  if (view) stand(position);
}
try {
  theme.value = localStorage.getItem("theme") ?? "auto";
} catch {
  theme.value = "auto";
}
theme.addEventListener("change", () => {
  try {
    localStorage.setItem("theme", theme.value);
  } catch {
    // It is then forgotten with the page.
  }
  retheme();
});
systemIsDark.addEventListener("change", retheme);
window.addEventListener("hashchange", restore);
window.addEventListener("resize", () => stand(position));

retheme();
restore();
