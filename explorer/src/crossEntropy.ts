/**
 * STEP under cross-entropy as five numbers, in logarithms: the product strength x_g of each group's contrasts, the
 * classifier y on the direction between the groups, and the features there, a f_A and -b f_B. With
 * s = sqrt(1 / k_A + 1 / k_B) a class has the margins
 *
 *     mu_g = x_g f_g over its own group,   nu_g = s y a_g f_g + (1 - 1 / k_g) mu_g over the other one h,
 *
 * and with D_g = 1 + (k_g - 1) e^-mu_g + k_h e^-nu_g and q_g = k_h e^-nu_g / D_g
 *
 *     x_g' = 2 r_g x_g (k_g e^-mu_g + k_h e^-nu_g) / D_g,   y' = s sum_g k_g r_g q_g a_g,   a_g' = s r_g q_g y.
 *
 * A group of one class has no contrasts: mu_g is 0 and its x_g stays where it is.
 */

import { crossStart, featureFactors, growthRates, type Pair, type Problem } from "./problem";
import type { Flow } from "./radau";

export class CrossEntropy implements Flow {
  readonly size = 5;
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

  constructor(p: Problem) {
    this.sizes = p.sizes;
    this.factors = featureFactors(p);
    this.rates = growthRates(p);
    this.s = Math.sqrt(1 / p.sizes[0] + 1 / p.sizes[1]);
  }

  /** log x_A, log x_B, log y, log a and log b of a balanced spectral start. */
  static start(p: Problem): Float64Array {
    const log = Math.log(p.start);
    const along = crossStart(p);
    const feature = (g: 0 | 1) => log / 2 + Math.log(along[g]) - Math.log(p.sizes[g]) / 2;
    return Float64Array.of(log, log, log / 2, feature(0), feature(1));
  }

  field(state: Float64Array, slopes: Float64Array): void {
    this.look(state);
    slopes[2] = 0;
    for (let g = 0; g < 2; g++) {
      const ratio = Math.exp(state[3 + g]! - state[2]!);
      const pushed = this.s * this.rates[g]! * this.cross[g]!;
      slopes[g] = this.sizes[g]! > 1 ? 2 * this.rates[g]! * this.pull[g]! : 0;
      slopes[2]! += this.sizes[g]! * pushed * ratio;
      slopes[3 + g] = pushed / ratio;
    }
  }

  jacobian(state: Float64Array, J: Float64Array): void {
    this.look(state);
    J.fill(0);
    for (let g = 0; g < 2; g++) {
      const k = this.sizes[g]!;
      const q = this.cross[g]!;
      const same = this.others[g]!;
      const pull = this.pull[g]!;
      // Derivatives of the pull and of log q by mu and nu
      const own = k > 1 ? (k / (k - 1)) * same : 0;
      const pullByWithin = pull * same - own;
      const pullByAcross = q * (pull - 1);
      // mu and nu by log x, and nu by log y and by log a
      const withinByX = this.within[g]!;
      const acrossByX = (1 - 1 / k) * withinByX;
      const acrossByRest = this.between[g]!;
      const byX = same * withinByX - (1 - q) * acrossByX;
      const byRest = -(1 - q) * acrossByRest;
      const ratio = Math.exp(state[3 + g]! - state[2]!);
      const pushed = this.s * this.rates[g]! * q;
      if (k > 1) {
        const twice = 2 * this.rates[g]!;
        J[g * 5 + g] = twice * (pullByWithin * withinByX + pullByAcross * acrossByX);
        J[g * 5 + 2] = twice * pullByAcross * acrossByRest;
        J[g * 5 + 3 + g] = twice * pullByAcross * acrossByRest;
      }
      const drawn = k * pushed * ratio;
      J[10 + g]! += drawn * byX;
      J[12]! += drawn * (byRest - 1);
      J[13 + g]! += drawn * (byRest + 1);
      const feature = (3 + g) * 5;
      const slope = pushed / ratio;
      J[feature + g]! += slope * byX;
      J[feature + 2]! += slope * (byRest + 1);
      J[feature + 3 + g]! += slope * (byRest - 1);
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
    for (let g = 0; g < 2; g++) {
      const k = this.sizes[g]!;
      const within = k > 1 ? this.factors[g]! * Math.exp(state[g]!) : 0;
      const between = this.s * this.factors[g]! * Math.exp(state[2]! + state[3 + g]!);
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
