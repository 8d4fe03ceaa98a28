/**
 * STEP under cross-entropy as four numbers, in logarithms: the product strength x_g of each group's contrasts, and
 * the features on the direction between the groups, a f_A and -b f_B. The classifier there, y, is what a balanced
 * start keeps it: y^2 = k_A a^2 + k_B b^2. With s = sqrt(1 / k_A + 1 / k_B) a class has the margins
 *
 *     mu_g = x_g f_g over its own group,   nu_g = s y a_g f_g + (1 - 1 / k_g) mu_g over the other one h,
 *
 * and with D_g = 1 + (k_g - 1) e^-mu_g + k_h e^-nu_g and q_g = k_h e^-nu_g / D_g
 *
 *     x_g' = 2 r_g x_g (k_g e^-mu_g + k_h e^-nu_g) / D_g,   a_g' = s r_g q_g y.
 *
 * A group of one class has no contrasts: mu_g is 0 and its x_g stays where it is.
 */

import { crossStart, featureFactors, growthRates, type Pair, type Problem } from "./problem";
import type { Flow } from "./radau";

export class CrossEntropy implements Flow {
  readonly size = 4;
  private readonly sizes: Pair;
  private readonly factors: Pair;
  private readonly rates: Pair;
  private readonly s: number;
  // Of each group at the state last looked at
  private readonly within = [0, 0];
  private readonly between = [0, 0];
  private readonly others = [0, 0];
  private readonly cross = [0, 0];
  private readonly pull = [0, 0];
  /** a_g / y. */
  private readonly ratio = [0, 0];

  constructor(p: Problem) {
    this.sizes = p.sizes;
    this.factors = featureFactors(p);
    this.rates = growthRates(p);
    this.s = Math.sqrt(1 / p.sizes[0] + 1 / p.sizes[1]);
  }

  /** log x_A, log x_B, log a and log b of a balanced spectral start. */
  static start(p: Problem): Float64Array {
    const log = Math.log(p.start);
    const along = crossStart(p);
    const feature = (g: 0 | 1) => log / 2 + Math.log(along[g]) - Math.log(p.sizes[g]) / 2;
    return Float64Array.of(log, log, feature(0), feature(1));
  }

  field(state: Float64Array, slopes: Float64Array): void {
    this.look(state);
    for (let g = 0; g < 2; g++) {
      slopes[g] = this.sizes[g]! > 1 ? 2 * this.rates[g]! * this.pull[g]! : 0;
      slopes[2 + g] = (this.s * this.rates[g]! * this.cross[g]!) / this.ratio[g]!;
    }
  }

  jacobian(state: Float64Array, J: Float64Array): void {
    this.look(state);
    J.fill(0);
    for (let g = 0; g < 2; g++) {
      const h = 1 - g;
      const k = this.sizes[g]!;
      const q = this.cross[g]!;
      const same = this.others[g]!;
      const pull = this.pull[g]!;
      // Derivatives of log y by log a_g, and by log a_h
      const mine = k * this.ratio[g]! ** 2;
      const theirs = 1 - mine;
      // mu and nu by log x, and nu by log y and by log a
      const withinByX = this.within[g]!;
      const acrossByX = (1 - 1 / k) * withinByX;
      const acrossByRest = this.between[g]!;
      if (k > 1) {
        const twice = 2 * this.rates[g]!;
        const pullByWithin = pull * same - (k / (k - 1)) * same;
        const pullByAcross = q * (pull - 1);
        J[4 * g + g] = twice * (pullByWithin * withinByX + pullByAcross * acrossByX);
        J[4 * g + 2 + g] = twice * pullByAcross * acrossByRest * (1 + mine);
        J[4 * g + 2 + h] = twice * pullByAcross * acrossByRest * theirs;
      }
      const slope = (this.s * this.rates[g]! * q) / this.ratio[g]!;
      const row = 4 * (2 + g);
      const byRest = -(1 - q) * acrossByRest;
      J[row + g] = slope * (same * withinByX - (1 - q) * acrossByX);
      J[row + 2 + g] = slope * (byRest * (1 + mine) + mine - 1);
      J[row + 2 + h] = slope * (byRest + 1) * theirs;
    }
  }

  /** mu_g and nu_g at a state, into `margins` as mu_A, mu_B, nu_A, nu_B. */
  margins(state: Float64Array, margins: Float64Array): void {
    this.look(state);
    for (let g = 0; g < 2; g++) {
      margins[g] = this.within[g]!;
      margins[2 + g] = this.between[g]! + (1 - 1 / this.sizes[g]!) * this.within[g]!;
    }
  }

  private look(state: Float64Array): void {
    const a = Math.exp(state[2]!);
    const b = Math.exp(state[3]!);
    const y = Math.sqrt(this.sizes[0] * a * a + this.sizes[1] * b * b);
    this.ratio[0] = a / y;
    this.ratio[1] = b / y;
    for (let g = 0; g < 2; g++) {
      const k = this.sizes[g]!;
      const within = k > 1 ? this.factors[g]! * Math.exp(state[g]!) : 0;
      const between = this.s * this.factors[g]! * y * y * this.ratio[g]!;
      const same = Math.exp(-within);
      const other = this.sizes[1 - g]! * Math.exp(-between - (1 - 1 / k) * within);
      const D = 1 + (k - 1) * same + other;
      this.within[g] = within;
      this.between[g] = between;
      this.others[g] = ((k - 1) * same) / D;
      this.cross[g] = other / D;
      this.pull[g] = (k * same + other) / D;
    }
  }
}
