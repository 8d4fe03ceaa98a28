/** The view as one picture to keep, an SVG on white in the colours of the figures. */

import { evenTicks, ticks, type Drawing } from "./charts";
import { entry } from "./matrix";
import type { View } from "./model";
import { shown } from "./settings";

export const SIZE = { width: 760, height: 700 };
const COLORS = { majority: "#0072B2", cross: "#7F7F7F", minority: "#D55E00" };
const PANEL = 290;
const LEFTS = [62, 440];
const SIDE = 168;

export interface Column {
  title: string;
  strengths: Drawing;
  margins: Drawing;
}

function text(x: number, y: number, words: string, more = ""): string {
  const safe = words.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${safe}</text>`;
}

/** One chart: axes, window, lines, marks of half learned, and the time of the matrices. */
function panel(drawing: Drawing, left: number, top: number, height: number, time: number, label: string): string {
  const { times, lines, top: highest } = drawing;
  const [low, high] = [times[0]!, times[times.length - 1]!];
  const x = (t: number) => left + (PANEL * Math.log(t / low)) / Math.log(high / low);
  const y = (value: number) => top + height * (1 - value / highest);
  const parts: string[] = [];
  if (drawing.window) {
    const [from, to] = drawing.window.map(x) as [number, number];
    parts.push(`<rect x="${from.toFixed(1)}" y="${top}" width="${(to - from).toFixed(1)}" height="${height}" fill="#009E73" opacity="0.13"/>`);
  }
  for (const tick of evenTicks(highest, 5)) {
    parts.push(`<line x1="${left}" x2="${left + PANEL}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}" stroke="#e4e1d9"/>`);
    parts.push(text(left - 6, y(tick) + 4, String(tick), 'text-anchor="end" fill="#5b5f66"'));
  }
  for (const tick of ticks(low, high, 5)) {
    parts.push(text(x(tick), top + height + 16, shown(tick, 1), 'text-anchor="middle" fill="#5b5f66"'));
  }
  for (const guide of drawing.guides) {
    parts.push(`<line x1="${left}" x2="${left + PANEL}" y1="${y(guide).toFixed(1)}" y2="${y(guide).toFixed(1)}" stroke="#5b5f66" stroke-dasharray="3 4"/>`);
  }
  const clip = `clip-${left}-${top}`;
  parts.push(`<clipPath id="${clip}"><rect x="${left}" y="${top - 1}" width="${PANEL}" height="${height + 2}"/></clipPath>`);
  for (const { group, values } of lines) {
    if (Number.isNaN(values[0]!)) continue;
    const points = Array.from(values, (value, i) => `${x(times[i]!).toFixed(2)},${y(value).toFixed(2)}`).join(" ");
    parts.push(`<polyline points="${points}" fill="none" stroke="${COLORS[group]}" stroke-width="${group === "cross" ? 1.5 : 2.2}" clip-path="url(#${clip})"/>`);
  }
  for (const { group, mark } of lines) {
    if (!(mark >= low && mark <= high)) continue;
    parts.push(`<circle cx="${x(mark).toFixed(1)}" cy="${y(0.5).toFixed(1)}" r="4" fill="#fff" stroke="${COLORS[group]}" stroke-width="2"/>`);
  }
  parts.push(`<line x1="${x(time).toFixed(1)}" x2="${x(time).toFixed(1)}" y1="${top}" y2="${top + height}" stroke="#1d1f22"/>`);
  parts.push(text(left, top - 8, label, 'fill="#5b5f66"'));
  return parts.join("");
}

/** The whole picture. */
export function picture(view: View, columns: readonly [Column, Column], time: number): string {
  const { settings } = view;
  const said =
    `R = ${shown(settings.ratio)}, k = ${settings.classes}, ${view.erm.problem.sizes[1]} of them minorities of ` +
    `${settings.smallest}, coupling ${shown(settings.coupling)}, start ${shown(settings.scale)}, ` +
    (settings.loss === "squared" ? "squared loss" : "cross-entropy");
  const parts = [
    `<rect width="${SIZE.width}" height="${SIZE.height}" fill="#fff"/>`,
    text(20, 26, said, 'font-size="13" fill="#5b5f66"'),
  ];
  [view.erm, view.weighted].forEach((curves, i) => {
    const left = LEFTS[i]!;
    const { title, strengths, margins } = columns[i]!;
    parts.push(text(left, 58, title, 'font-size="16" fill="#1d1f22"'));
    parts.push(panel(strengths, left, 90, 170, time, "share of the target"));
    parts.push(panel(margins, left, 310, 120, time, "margin, own logit over the next"));
    parts.push(text(left + PANEL, 464, "flow time", 'text-anchor="end" fill="#5b5f66"'));
    parts.push(text(left, 492, `mean prediction at t = ${shown(time)}`, 'fill="#5b5f66"'));
    const predicted = curves.predicted(time);
    const { sizes } = curves.problem;
    const k = sizes[0] + sizes[1];
    const cell = SIDE / k;
    for (let row = 0; row < k; row++) {
      for (let column = 0; column < k; column++) {
        const share = Math.min(Math.max(entry(predicted, sizes, row, column), 0), 1);
        const fill = row < sizes[0] ? COLORS.majority : COLORS.minority;
        const box = `x="${(left + column * cell).toFixed(2)}" y="${(502 + row * cell).toFixed(2)}" width="${(cell * 0.94).toFixed(2)}" height="${(cell * 0.94).toFixed(2)}"`;
        parts.push(`<rect ${box} fill="#ebe8e0"/><rect ${box} fill="${fill}" opacity="${share.toFixed(4)}"/>`);
      }
    }
    const lines = ["majority", "cross", "minority"] as const;
    lines.forEach((group, j) => {
      const at = 520 + 22 * j;
      parts.push(`<line x1="${left + SIDE + 18}" x2="${left + SIDE + 38}" y1="${at}" y2="${at}" stroke="${COLORS[group]}" stroke-width="2.5"/>`);
      parts.push(text(left + SIDE + 44, at + 4, group, 'fill="#1d1f22"'));
    });
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${SIZE.width}" height="${SIZE.height}" viewBox="0 0 ${SIZE.width} ${SIZE.height}" ` +
    `font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12">${parts.join("")}</svg>\n`
  );
}

/** The same as a PNG, of twice as many pixels. */
export async function png(svg: string): Promise<Blob> {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * SIZE.width;
  canvas.height = 2 * SIZE.height;
  canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png"),
  );
}
