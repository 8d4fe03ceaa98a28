/** What the page says of a view in words. */

import type { Curves, View } from "./model";
import { balance, minorityClasses, type Settings } from "./problem";
import { shown } from "./settings";

/** How many times later the minorities are learned than the majorities. */
export function delay(curves: Curves): number {
  const [majority, minority] = curves.groupTimes;
  return minority / majority;
}

function order(ratio: number): string {
  if (Math.abs(Math.log(ratio)) < Math.log(1.25)) return "at about the same time as majorities";
  return ratio > 1 ? `${shown(ratio)} times later than majorities` : `${shown(1 / ratio)} times sooner than majorities`;
}

/** The view in two or three sentences. */
export function summary(view: View): string {
  const { settings, window } = view;
  const sentences = [`Without weights minorities are learned ${order(delay(view.erm))}.`];
  if (settings.exponent > 0) {
    sentences.push(`With g = ${settings.exponent} they are learned ${order(delay(view.weighted))}.`);
  }
  if (window) {
    sentences.push(
      `From t = ${shown(window[0])} to ${shown(window[1])} all is learned with weights, and not yet without: stopping then is where they help.`,
    );
  } else if (settings.exponent > 0) {
    sentences.push("All is learned no sooner with weights than without: there is no time at which they help.");
  }
  return sentences.join(" ");
}

/** The balance point and what there is to say of it. */
export function balanceInWords(settings: Settings): { value: string; aside: string; exponent: number | null } {
  const { exponent, of } = balance(settings);
  if (exponent !== null) {
    const off = settings.exponent - exponent;
    const now = Math.abs(off) < 0.02 ? "g is there" : off < 0 ? "g is below: majorities first" : "g is above: minorities first";
    return { value: exponent.toFixed(3), aside: of === "margins" ? `of margins · ${now}` : now, exponent };
  }
  if (of === "none") {
    const few = minorityClasses(settings) === 1;
    return { value: "–", aside: `a single ${few ? "minority" : "majority"} has no contrasts`, exponent };
  }
  return { value: "any", aside: "all classes are of one size", exponent };
}

/** A ratio of learning times: the number, and what it says. */
export function delayInWords(curves: Curves): { value: string; aside: string } {
  const ratio = delay(curves);
  const [majority, minority] = curves.groupTimes;
  return { value: ratio < 1 ? `1 / ${shown(1 / ratio)} ×` : `${shown(ratio)} ×`, aside: `t = ${shown(majority)} and ${shown(minority)}` };
}

/** What a chart shows, for those who do not see it. */
export function chartInWords(curves: Curves, margins: boolean): string {
  const [majority, cross, minority] = curves.learned;
  const time = (t: number) => (Number.isFinite(t) ? `at t = ${shown(t)}` : "not within the times shown");
  const part = (name: string, t: number) => (Number.isNaN(t) ? `${name} has one class only` : `${name} ${time(t)}`);
  if (margins) {
    const [large, small] = curves.separated;
    return `Margins over time. A half is reached: ${part("majority", large)}, ${part("minority", small)}.`;
  }
  return `Strengths over time. Half learned: ${part("majority", majority)}, ${part("minority", minority)}, the contrast between them ${time(cross)}.`;
}
