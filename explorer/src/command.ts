/** The commands of the Python package that run what the page shows, and the table of its curves. */

import { minorityClasses, rounded, type Settings } from "./problem";
import type { Curves, View } from "./model";

/** `ssm run` of one exponent, over the times of the view. */
function run(settings: Settings, exponent: number, end: number, out: string): string {
  const { classes, fraction } = settings;
  const few = minorityClasses(settings);
  const flags: [string, string | number][] = [
    ["loss", settings.loss],
    ["num-classes", classes],
    ["imbalance-ratio", settings.ratio],
    ["minority-fraction", rounded(fraction * classes) === few ? fraction : few / classes],
    ["minority-count", settings.smallest],
    ["weight-exponent", exponent],
    ["coupling", settings.coupling],
    ["init", "spectral"],
    ["init-scale", settings.scale],
    ["feature-dim", Math.max(16, classes)],
    ["t1", Number(end.toPrecision(6))],
    ["save-spacing", "log"],
    ["out", out],
  ];
  return `ssm run ${flags.map(([name, value]) => `--${name} ${value}`).join(" ")}`;
}

/** The runs of ERM and of the weights. */
export function commands(view: View): string {
  const end = view.times[view.times.length - 1]!;
  const { settings } = view;
  return [run(settings, 0, end, "erm.zarr"), run(settings, settings.exponent, end, "weighted.zarr")].join("\n");
}

/** The curves with all their digits; settings and learning times stand above them, after #. */
export function table(view: View): string {
  const both: [string, Curves][] = [
    ["erm", view.erm],
    ["weighted", view.weighted],
  ];
  const columns: [string, Float64Array][] = [["time", view.times]];
  const above = [`# settings ${JSON.stringify(view.settings)}`];
  for (const [name, curves] of both) {
    const [majority, cross, minority] = curves.learned;
    const [large, small] = curves.separated;
    const times = { majority, cross, minority, margin_majority: large, margin_minority: small };
    above.push(`# ${name} learned ${JSON.stringify(times)}`);
    ["majority", "cross", "minority"].forEach((block, i) =>
      columns.push([`${name}_${block}`, curves.blocks[i]!]),
    );
    ["majority", "minority"].forEach((group, i) =>
      columns.push([`${name}_margin_${group}`, curves.margins[i]!]),
    );
  }
  above.push(`# window ${JSON.stringify(view.window)}`);
  const rows = Array.from(view.times, (_, i) =>
    columns.map(([, values]) => (Number.isNaN(values[i]!) ? "" : values[i]!)).join(","),
  );
  return [...above, columns.map(([name]) => name).join(","), ...rows, ""].join("\n");
}
