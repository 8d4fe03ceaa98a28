/** The curves of one weighting, and what is read off them: ERM beside weights. */

import { CrossEntropy } from "./crossEntropy";
import {
  crossVector,
  featureFactors,
  growthRates,
  problemOf,
  type Loss,
  type Pair,
  type Problem,
  type Settings,
} from "./problem";
import { Solution } from "./radau";
import { SquaredCross } from "./squared";

/** A strength that counts as learned, as a share of its target, and a margin as much of 1. */
const LEARNED = 0.5;
/** Times that are drawn. */
const POINTS = 360;

/** Numbers at one time: mu_A, mu_B, nu_A, nu_B, then s y a_g f_g, the part of nu_g between the groups. */
const NUMBERS = 6;

/** The mean logits of a problem over time, from the exact small system of its loss. */
class Trajectory {
  readonly solution: Solution;
  private readonly state: Float64Array;
  private readonly numbers = new Float64Array(NUMBERS);
  private readonly rates: Pair;
  private readonly starts: Pair;
  private readonly perFeature: Pair;
  private readonly crossWeights: Pair;
  private readonly crossEntropy: CrossEntropy | null;

  constructor(
    readonly problem: Problem,
    readonly loss: Loss,
  ) {
    const p = problem;
    const u = crossVector(p);
    const factors = featureFactors(p);
    this.rates = growthRates(p);
    this.starts = [p.start * factors[0], p.start * factors[1]];
    this.crossEntropy = loss === "squared" ? null : new CrossEntropy(p);
    const start = loss === "squared" ? SquaredCross.start(p) : CrossEntropy.start(p);
    this.solution = new Solution(this.crossEntropy ?? new SquaredCross(p), start);
    this.state = start.slice();
    // From x A_g to the part of nu_g between the groups, under the squared loss
    const part = (g: 0 | 1) => (factors[g] * (u[0] - u[1])) / Math.sqrt(p.sizes[g]);
    this.perFeature = [part(0), part(1)];
    const whole = p.counts[0] / p.sizes[0] + p.counts[1] / p.sizes[1];
    this.crossWeights = [p.counts[0] / whole, p.counts[1] / whole];
  }

  /** The numbers at `time`, which lies in step `step`. */
  at(time: number, step: number): Float64Array {
    const out = this.numbers;
    this.solution.at(time, step, this.state);
    const { sizes } = this.problem;
    if (this.crossEntropy) {
      this.crossEntropy.margins(this.state, out);
      for (let g = 0; g < 2; g++) out[4 + g] = out[2 + g]! - (1 - 1 / sizes[g]!) * out[g]!;
      return out;
    }
    const A = [Math.exp(this.state[0]!), Math.exp(this.state[1]!)];
    const x = Math.hypot(A[0]!, A[1]!);
    for (let g = 0; g < 2; g++) {
      const left = 1 / this.starts[g]! - 1;
      out[g] = sizes[g]! > 1 ? 1 / (1 + left * Math.exp(-2 * this.rates[g]! * time)) : 0;
      out[4 + g] = x * A[g]! * this.perFeature[g]!;
      out[2 + g] = out[4 + g]! + (1 - 1 / sizes[g]!) * out[g]!;
    }
    return out;
  }

  /** The share of its target that the cross component has. */
  cross(numbers: Float64Array): number {
    return this.crossWeights[0] * numbers[4]! + this.crossWeights[1] * numbers[5]!;
  }

  /** Own logit of a class of group g over the next. */
  margin(numbers: Float64Array, g: 0 | 1): number {
    return this.problem.sizes[g] > 1 ? Math.min(numbers[g]!, numbers[2 + g]!) : numbers[2 + g]!;
  }

  /** When a number first reaches `LEARNED`, going on as far as that takes, but not beyond `limit`. */
  reached(of: (numbers: Float64Array) => number, limit = Infinity): number {
    const { solution } = this;
    if (!solution.steps) solution.advance();
    if (of(this.at(0, 0)) >= LEARNED) return 0;
    for (let step = 0; step < 3000; step++) {
      if (step >= solution.steps) solution.advance();
      if (solution.ends[step]! > limit) break;
      if (of(this.at(solution.ends[step + 1]!, step)) < LEARNED) continue;
      let low = solution.ends[step]!;
      let high = solution.ends[step + 1]!;
      for (let i = 0; i < 60 && high - low > 1e-13 * high; i++) {
        const middle = (low + high) / 2;
        if (of(this.at(middle, step)) < LEARNED) low = middle;
        else high = middle;
      }
      return high <= limit ? high : Infinity;
    }
    return Infinity;
  }
}

/** Mean predicted probabilities of a class of each group: of itself, of each other of its group, of the others. */
export interface Predicted {
  own: Pair;
  same: Pair;
  other: Pair;
}

/** What one weighting does. Arrays of pairs are majority, minority; NaN where there is no such number. */
export class Curves {
  readonly problem: Problem;
  /** Shares of their targets: majority, cross, minority. */
  blocks: Float64Array[] = [];
  /** Margins of the classes of each group. */
  margins: Float64Array[] = [];
  /** When half of each block's target is reached: majority, cross, minority; Infinity after the last drawn time. */
  readonly learned: [number, number, number];
  /** When the margin of each group's classes reaches a half. */
  readonly separated: Pair;
  private readonly trajectory: Trajectory;

  constructor(settings: Settings, exponent: number) {
    this.problem = problemOf(settings, exponent);
    const trajectory = new Trajectory(this.problem, settings.loss);
    this.trajectory = trajectory;
    const within = (g: 0 | 1) =>
      this.problem.sizes[g] > 1 ? trajectory.reached((numbers) => numbers[g]!) : NaN;
    const margin = (g: 0 | 1) => trajectory.reached((numbers) => trajectory.margin(numbers, g));
    this.learned = [within(0), Infinity, within(1)];
    this.separated = [margin(0), margin(1)];
  }

  /** When each group is learned: half of its contrasts' target, or of a single class its margin. */
  get groupTimes(): Pair {
    const time = (g: 0 | 1) =>
      this.problem.sizes[g] > 1 ? this.learned[2 * g]! : this.separated[g];
    return [time(0), time(1)];
  }

  /** Fill in the curves at these times, which ascend. */
  draw(times: Float64Array): void {
    const { trajectory, problem } = this;
    const last = times[times.length - 1]!;
    trajectory.solution.cover(last);
    this.learned[1] = trajectory.reached((numbers) => trajectory.cross(numbers), last);
    this.blocks = [0, 1, 2].map(() => new Float64Array(times.length));
    this.margins = [0, 1].map(() => new Float64Array(times.length));
    let step = 0;
    for (let i = 0; i < times.length; i++) {
      step = trajectory.solution.find(times[i]!, step);
      const numbers = trajectory.at(times[i]!, step);
      this.blocks[0]![i] = problem.sizes[0] > 1 ? numbers[0]! : NaN;
      this.blocks[1]![i] = trajectory.cross(numbers);
      this.blocks[2]![i] = problem.sizes[1] > 1 ? numbers[1]! : NaN;
      this.margins[0]![i] = trajectory.margin(numbers, 0);
      this.margins[1]![i] = trajectory.margin(numbers, 1);
    }
  }

  /** Steps that the solution took. */
  get steps(): number {
    return this.trajectory.solution.steps;
  }

  /**
   * Mean predictions at a time: softmax of the mean logits, or under the squared loss the mean logits plus 1 / k,
   * which are the fit to one-hot labels.
   */
  predicted(time: number): Predicted {
    const { trajectory, problem } = this;
    const numbers = trajectory.at(time, trajectory.solution.find(time));
    const k = problem.sizes[0] + problem.sizes[1];
    const rows = ([0, 1] as const).map((g) => {
      const mine = problem.sizes[g];
      const rest = problem.sizes[1 - g]!;
      const mu = numbers[g]!;
      const nu = numbers[2 + g]!;
      if (trajectory.loss === "squared") {
        const own = 1 / k + (1 - 1 / mine) * mu + (numbers[4 + g]! * rest) / k;
        return [own, own - mu, own - nu] as const;
      }
      const D = 1 + (mine - 1) * Math.exp(-mu) + rest * Math.exp(-nu);
      return [1 / D, Math.exp(-mu) / D, Math.exp(-nu) / D] as const;
    });
    const [a, b] = [rows[0]!, rows[1]!];
    return { own: [a[0], b[0]], same: [a[1], b[1]], other: [a[2], b[2]] };
  }
}

/** Both weightings of the settings, over the same times. */
export interface View {
  settings: Settings;
  times: Float64Array;
  erm: Curves;
  weighted: Curves;
  /** The learning window: from all groups learned with weights until so by ERM; null where it never opens. */
  window: Pair | null;
}

/**
 * Follow ERM and weights until both have learned the classes of each group, and draw them from well before to well
 * after. Under cross-entropy the cross component may take many decades longer, where the contrasts of majorities
 * tell them from minorities already.
 */
export function viewOf(settings: Settings): View {
  const erm = new Curves(settings, 0);
  const weighted = new Curves(settings, settings.exponent);
  const events = [erm, weighted]
    .flatMap((curves) => [...curves.learned, ...curves.separated])
    .filter((time) => time > 0 && Number.isFinite(time));
  const first = Math.log(Math.min(...events) / 8);
  const last = Math.log(Math.max(...events) * 6);
  const times = Float64Array.from({ length: POINTS }, (_, i) =>
    Math.exp(first + ((last - first) * i) / (POINTS - 1)),
  );
  erm.draw(times);
  weighted.draw(times);
  const opens = Math.max(...weighted.groupTimes);
  const closes = Math.max(...erm.groupTimes);
  return { settings, times, erm, weighted, window: opens < closes ? [opens, closes] : null };
}
