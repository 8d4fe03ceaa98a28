/** Singular values of the label matrix before and after weights, three lines on a logarithmic axis. */

import type { Multiplet } from "./problem";
import { shown } from "./settings";

const WIDTH = 400;
const HEIGHT = 210;
const LEFT = 116;
const RIGHT = WIDTH - LEFT;
const [TOP, BOTTOM] = [34, HEIGHT - 12];

/** Heights of labels, moved apart so that none covers another. */
function apart(heights: number[], distance: number): number[] {
  const order = heights.map((_, i) => i).sort((a, b) => heights[a]! - heights[b]!);
  const placed = heights.slice();
  for (let round = 0; round < 40; round++) {
    for (let i = 1; i < order.length; i++) {
      const [upper, lower] = [order[i - 1]!, order[i]!];
      const missing = distance - (placed[lower]! - placed[upper]!);
      if (missing > 0) {
        placed[upper]! -= missing / 2;
        placed[lower]! += missing / 2;
      }
    }
  }
  return placed;
}

/** The picture, with the colours of the page. */
export function spectrumPicture(before: Multiplet[], after: Multiplet[]): string {
  const there = [0, 1, 2].filter((i) => before[i]!.multiplicity > 0);
  const values = there.flatMap((i) => [before[i]!.value, after[i]!.value]).map(Math.log);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(high - low, 0.2);
  const middle = (low + high) / 2;
  const height = (value: number) => (TOP + BOTTOM) / 2 - ((Math.log(value) - middle) / room) * (BOTTOM - TOP - 24);
  const sides = [before, after].map((side) => there.map((i) => height(side[i]!.value)));
  const labels = sides.map((heights) => apart(heights, 15));
  const text = (x: number, y: number, anchor: string, words: string, fill: string) =>
    `<text x="${x}" y="${(y + 4).toFixed(1)}" text-anchor="${anchor}" fill="${fill}">${words}</text>`;
  const parts = there.map((i, j) => {
    const { block, multiplicity } = before[i]!;
    const [y, z] = [sides[0]![j]!, sides[1]![j]!];
    const stroke = `var(--${block})`;
    const times = multiplicity > 1 ? `${multiplicity} × ` : "";
    return [
      `<line x1="${LEFT}" y1="${y.toFixed(1)}" x2="${RIGHT}" y2="${z.toFixed(1)}" stroke="${stroke}" stroke-width="${block === "cross" ? 1.5 : 2.5}"/>`,
      ...[[LEFT, y], [RIGHT, z]].map(([x, at]) => `<circle cx="${x}" cy="${at!.toFixed(1)}" r="4.5" fill="${stroke}"/>`),
      text(LEFT - 12, labels[0]![j]!, "end", times + shown(before[i]!.value), "var(--ink)"),
      text(RIGHT + 12, labels[1]![j]!, "start", times + shown(after[i]!.value), "var(--ink)"),
    ].join("");
  });
  const heads =
    text(LEFT, 12, "middle", "before", "var(--muted)") + text(RIGHT, 12, "middle", "after", "var(--muted)");
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" font-size="13" font-family="system-ui, sans-serif" aria-hidden="true">${heads}${parts.join("")}</svg>`;
}
