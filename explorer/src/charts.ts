/** The live charts: lines over the logarithm of time, marks, the window, and where the matrices stand. */

import uPlot from "uplot";
import { shown } from "./settings";

export type Group = "majority" | "cross" | "minority";

export interface Line {
  group: Group;
  values: Float64Array;
  /** Where to put the dot that says when a half is reached. */
  mark: number;
}

export interface Drawing {
  times: Float64Array;
  lines: Line[];
  top: number;
  window: readonly [number, number] | null;
  /** What is drawn as thin lines across, as the target. */
  guides: number[];
}

const COLORS = new Map<string, string>();

/** A colour of the page's theme. */
export function color(name: string): string {
  let found = COLORS.get(name);
  if (found === undefined) {
    found = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    COLORS.set(name, found);
  }
  return found;
}

/** Look all colours up again: the theme has changed. */
export function forgetColors(): void {
  COLORS.clear();
}

/** Powers of ten between two times, and numbers between them where there are few; not more than fit. */
export function ticks(low: number, high: number, most: number): number[] {
  const decades = Math.log10(high / low);
  const factors = decades < 1.6 ? [1, 2, 5] : decades < 3.3 ? [1, 3] : [1];
  const stride = Math.max(1, Math.ceil(decades / most));
  const found: number[] = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    if (factors.length === 1 && e % stride !== 0) continue;
    for (const factor of factors) {
      const tick = Number((factor * 10 ** e).toPrecision(3));
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found;
}

/** Even ticks from 0 to at most `top`. */
export function evenTicks(top: number, most: number): number[] {
  const rough = top / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough)!;
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

const NUMBERS = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export class Chart {
  private readonly plot: uPlot;
  private readonly head: HTMLElement;
  private drawing: Drawing | null = null;
  private time = 0;

  constructor(
    private readonly place: HTMLElement,
    private readonly height: number,
    groups: Group[],
    onTime: (time: number) => void,
  ) {
    const series: uPlot.Series[] = groups.map((group) => ({
      stroke: () => color(group),
      width: group === "cross" ? 1.5 : 2.25,
      pxAlign: 0, // so that curves are smooth
      points: { show: false },
      spanGaps: false,
    }));
    const font = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
    const axis: uPlot.Axis = {
      font,
      stroke: () => color("muted"),
      grid: { stroke: () => color("rule"), width: 1 },
      ticks: { show: false },
      border: { show: false },
    };
    this.plot = new uPlot(
      {
        width: Math.max(place.clientWidth, 200),
        height,
        pxAlign: 1,
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: false, distr: 3, range: () => this.span() },
          y: { range: () => [0, this.drawing?.top ?? 1] },
        },
        axes: [
          {
            ...axis,
            size: 26,
            label: "flow time t",
            labelSize: 16,
            labelFont: font,
            labelGap: 0,
            filter: (_, splits) => splits, // else only some of a logarithmic axis' labels are kept
            splits: (u) => ticks(...this.span(), u.width / 64),
            values: (_, splits) => splits.map((t) => shown(t, 1)),
          },
          {
            ...axis,
            size: 40,
            splits: () => evenTicks(this.drawing?.top ?? 1, 5),
            values: (_, splits) => splits.map((y) => NUMBERS.format(y)),
          },
        ],
        series: [{}, ...series],
        hooks: { drawClear: [() => this.drawBehind()], draw: [() => this.drawMarks()] },
        padding: [10, 10, 0, 0],
      },
      [[1, 2], ...groups.map(() => [null, null])] as uPlot.AlignedData,
      place,
    );
    this.head = document.createElement("div");
    this.head.className = "head";
    this.plot.over.append(this.head);
    this.listen(onTime);
    new ResizeObserver(() => this.resize()).observe(place);
  }

  /** Draw these lines. */
  draw(drawing: Drawing): void {
    this.drawing = drawing;
    const columns = drawing.lines.map((line) =>
      Array.from(line.values, (value) => (Number.isNaN(value) ? null : value)),
    );
    this.plot.setData([Array.from(drawing.times), ...columns] as uPlot.AlignedData);
  }

  /** Put the line that says where the matrices stand. */
  stand(time: number): void {
    this.time = time;
    if (!this.drawing) return;
    this.head.style.transform = `translateX(${this.plot.valToPos(time, "x")}px)`;
  }

  /** Draw again in the colours of the theme. */
  recolor(): void {
    this.plot.redraw(false, true);
  }

  private span(): [number, number] {
    const times = this.drawing?.times;
    return times ? [times[0]!, times[times.length - 1]!] : [1, 10];
  }

  private resize(): void {
    const width = this.place.clientWidth;
    if (width > 0 && width !== this.plot.width) {
      this.plot.setSize({ width, height: this.height });
    }
  }

  private drawBehind(): void {
    const { ctx, bbox } = this.plot;
    const { drawing } = this;
    if (!drawing) return;
    ctx.save();
    if (drawing.window) {
      const [low, high] = drawing.window.map((t) => this.plot.valToPos(t, "x", true)) as [number, number];
      ctx.fillStyle = color("window");
      ctx.fillRect(low, bbox.top, high - low, bbox.height);
    }
    ctx.strokeStyle = color("muted");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const guide of drawing.guides) {
      const y = this.plot.valToPos(guide, "y", true);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.restore();
  }

  private drawMarks(): void {
    const { ctx } = this.plot;
    const { drawing } = this;
    if (!drawing) return;
    const [low, high] = this.span();
    ctx.save();
    for (const { group, mark } of drawing.lines) {
      if (!(mark >= low && mark <= high)) continue;
      ctx.beginPath();
      const [x, y] = [this.plot.valToPos(mark, "x", true), this.plot.valToPos(0.5, "y", true)];
      ctx.arc(x, y, 4.5 * devicePixelRatio, 0, 2 * Math.PI);
      ctx.fillStyle = color("paper");
      ctx.fill();
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.strokeStyle = color(group);
      ctx.stroke();
    }
    ctx.restore();
    this.stand(this.time); // which the scales of this drawing put elsewhere
  }

  /** A press or a drag on the chart sets the time of the matrices. */
  private listen(onTime: (time: number) => void): void {
    const { over } = this.plot;
    const set = (event: PointerEvent) => {
      const x = event.clientX - over.getBoundingClientRect().left;
      const [low, high] = this.span();
      onTime(Math.min(Math.max(this.plot.posToVal(x, "x"), low), high));
    };
    over.addEventListener("pointerdown", (event) => {
      over.setPointerCapture(event.pointerId);
      set(event);
    });
    over.addEventListener("pointermove", (event) => {
      if (over.hasPointerCapture(event.pointerId)) set(event);
    });
  }
}
