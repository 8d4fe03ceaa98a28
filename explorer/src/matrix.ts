/** The k x k matrix of mean predictions: a row for the class that is right, shaded by what is predicted. */

import { color } from "./charts";
import type { Predicted } from "./model";
import type { Pair } from "./problem";

/** The prediction of class `column` for samples of class `row`; majorities come first. */
export function entry(predicted: Predicted, sizes: Pair, row: number, column: number): number {
  const group = row < sizes[0] ? 0 : 1;
  if (row === column) return predicted.own[group];
  return column < sizes[0] === row < sizes[0] ? predicted.same[group] : predicted.other[group];
}

/** Draw it, in the colour of each row's group. */
export function drawMatrix(canvas: HTMLCanvasElement, predicted: Predicted, sizes: Pair): void {
  const k = sizes[0] + sizes[1];
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const ctx = canvas.getContext("2d");
  if (!ctx || side === 0) return;
  ctx.clearRect(0, 0, side, side);
  const gap = Math.max(1, Math.round((side / k) * 0.06));
  const line = (i: number) => Math.round((i * side) / k);
  const colors = [color("majority"), color("minority")];
  const empty = color("cell");
  for (let row = 0; row < k; row++) {
    for (let column = 0; column < k; column++) {
      const share = Math.min(Math.max(entry(predicted, sizes, row, column), 0), 1);
      const at = [line(column), line(row), line(column + 1) - line(column) - gap, line(row + 1) - line(row) - gap] as const;
      ctx.globalAlpha = 1;
      ctx.fillStyle = empty;
      ctx.fillRect(...at);
      ctx.globalAlpha = share;
      ctx.fillStyle = colors[row < sizes[0] ? 0 : 1]!;
      ctx.fillRect(...at);
    }
  }
  ctx.globalAlpha = 1;
}
