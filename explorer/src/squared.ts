/**
 * The cross component of STEP under the squared loss: one direction of the classifier, x, and a feature on it for
 * each group, A_g in the metric of the flow, with x^2 = A_1^2 + A_2^2 for good:
 *
 *     (log A_g)' = r_g x / A_g - m_g x^2,   r_g = w_g sqrt(kappa_g) |s_g| / n,   m_g = kappa_g w_g / n.
 *
 * Contrasts within a group are sigmoids and need no integration.
 */

import { crossStart, crossTargets, type Problem } from "./problem";
import type { Flow } from "./radau";

export class SquaredCross implements Flow {
  readonly size = 2;
  private readonly rates: [number, number];
  private readonly pulls: [number, number];

  constructor(p: Problem) {
    const s = crossTargets(p);
    const rate = (g: 0 | 1) => (p.weights[g] * Math.sqrt(p.kernel[g]) * Math.abs(s[g])) / p.samples;
    const pull = (g: 0 | 1) => (p.kernel[g] * p.weights[g]) / p.samples;
    this.rates = [rate(0), rate(1)];
    this.pulls = [pull(0), pull(1)];
  }

  /** log A_g of a balanced spectral start. */
  static start(p: Problem): Float64Array {
    return Float64Array.from(crossStart(p), (along) => Math.log(along) + Math.log(p.start) / 2);
  }

  field(state: Float64Array, slopes: Float64Array): void {
    const first = Math.exp(2 * state[0]!);
    const second = Math.exp(2 * state[1]!);
    const whole = first + second;
    slopes[0] = this.rates[0] / Math.sqrt(first / whole) - this.pulls[0] * whole;
    slopes[1] = this.rates[1] / Math.sqrt(second / whole) - this.pulls[1] * whole;
  }

  jacobian(state: Float64Array, J: Float64Array): void {
    const first = Math.exp(2 * state[0]!);
    const second = Math.exp(2 * state[1]!);
    const whole = first + second;
    const shares = [first / whole, second / whole];
    for (let g = 0; g < 2; g++) {
      const grown = this.rates[g]! / Math.sqrt(shares[g]!);
      const held = this.pulls[g]! * whole;
      for (let j = 0; j < 2; j++) J[2 * g + j] = (grown - 2 * held) * shares[j]! - (g === j ? grown : 0);
    }
  }
}
