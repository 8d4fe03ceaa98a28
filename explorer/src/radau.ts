/**
 * One small system of differential equations, implicit, with a result between its steps.
 *
 * Radau IIA of five stages and order nine, as the Python package has it: numbers are logarithms, in which growth
 * from a small start is a straight line, and rates may be any number of decades apart. The polynomial through a
 * step's start and its stages is the result within the step; its last coefficient, of order five, is held down
 * to `TOLERANCE`, so that curves are as good between steps as the page says they are.
 *
 * Source: Hairer, Wanner 1996.
 */

export interface Flow {
  /** How many numbers are followed. */
  readonly size: number;
  /** Slopes of the numbers at `state`, into `slopes`. */
  field(state: Float64Array, slopes: Float64Array): void;
  /** Derivatives of the slopes, by rows, into `jacobian`. */
  jacobian(state: Float64Array, jacobian: Float64Array): void;
}

const STAGES = 5;
const NODES = STAGES + 1;
const TOLERANCE = 3e-8;
/** The last correction of Newton's method, a tenth of what a step may leave out. */
const SETTLED = 3e-9;
const NEWTON = 10;
const MOST_STEPS = 4000;

/** Values of the Legendre polynomials of degree 0 to 5 at x in [-1, 1], into `out`. */
function legendre(x: number, out: Float64Array): void {
  out[0] = 1;
  out[1] = x;
  for (let n = 1; n < STAGES; n++) {
    out[n + 1] = ((2 * n + 1) * x * out[n]! - n * out[n - 1]!) / (n + 1);
  }
}

/** The nodes in (0, 1], where P_5 - P_4 of 2 c - 1 is 0: bisection between sign changes, the last is 1. */
function nodesOfRadau(): number[] {
  const values = new Float64Array(NODES);
  const difference = (x: number): number => {
    legendre(x, values);
    return values[5]! - values[4]!;
  };
  const found: number[] = [];
  const pieces = 400;
  for (let i = 0; i < pieces - 1; i++) {
    let low = -1 + (2 * i) / pieces;
    let high = -1 + (2 * (i + 1)) / pieces;
    const sign = Math.sign(difference(low));
    if (sign === Math.sign(difference(high))) continue;
    for (let j = 0; j < 60; j++) {
      const middle = (low + high) / 2;
      if (Math.sign(difference(middle)) === sign) low = middle;
      else high = middle;
    }
    found.push((1 + (low + high) / 2) / 2);
  }
  return [...found, 1];
}

/** LU factors with pivoting of a matrix of `size` rows, in its place. */
function factorise(matrix: Float64Array, size: number, pivots: Int32Array): void {
  for (let column = 0; column < size; column++) {
    let best = column;
    for (let row = column + 1; row < size; row++) {
      if (Math.abs(matrix[row * size + column]!) > Math.abs(matrix[best * size + column]!)) best = row;
    }
    pivots[column] = best;
    if (best !== column) {
      for (let j = 0; j < size; j++) {
        const kept = matrix[column * size + j]!;
        matrix[column * size + j] = matrix[best * size + j]!;
        matrix[best * size + j] = kept;
      }
    }
    const inverse = 1 / matrix[column * size + column]!;
    for (let row = column + 1; row < size; row++) {
      const factor = matrix[row * size + column]! * inverse;
      matrix[row * size + column] = factor;
      if (factor === 0) continue;
      for (let j = column + 1; j < size; j++) {
        matrix[row * size + j]! -= factor * matrix[column * size + j]!;
      }
    }
  }
}

/** The solution of the factorised system, in the place of its right side. */
function solve(matrix: Float64Array, size: number, pivots: Int32Array, right: Float64Array): void {
  for (let i = 0; i < size; i++) {
    const other = pivots[i]!;
    const kept = right[other]!;
    right[other] = right[i]!;
    right[i] = kept;
  }
  for (let i = 1; i < size; i++) {
    let sum = right[i]!;
    for (let j = 0; j < i; j++) sum -= matrix[i * size + j]! * right[j]!;
    right[i] = sum;
  }
  for (let i = size - 1; i >= 0; i--) {
    let sum = right[i]!;
    for (let j = i + 1; j < size; j++) sum -= matrix[i * size + j]! * right[j]!;
    right[i] = sum / matrix[i * size + i]!;
  }
}

/** The inverse of a square matrix of few rows. */
function inverted(matrix: Float64Array, size: number): Float64Array {
  const factors = matrix.slice();
  const pivots = new Int32Array(size);
  factorise(factors, size, pivots);
  const inverse = new Float64Array(size * size);
  const column = new Float64Array(size);
  for (let j = 0; j < size; j++) {
    column.fill(0);
    column[j] = 1;
    solve(factors, size, pivots, column);
    for (let i = 0; i < size; i++) inverse[i * size + j] = column[i]!;
  }
  return inverse;
}

/** A^-1 of the method, and the matrix from values at a step's start and stages to Legendre coefficients. */
function method(): { nodes: number[]; inverse: Float64Array; shape: Float64Array } {
  const nodes = nodesOfRadau();
  const powers = new Float64Array(STAGES * STAGES);
  const integrals = new Float64Array(STAGES * STAGES);
  const at = new Float64Array(NODES * NODES);
  const values = new Float64Array(NODES);
  for (let i = 0; i < STAGES; i++) {
    for (let j = 0; j < STAGES; j++) {
      powers[i * STAGES + j] = nodes[i]! ** j;
      integrals[i * STAGES + j] = nodes[i]! ** (j + 1) / (j + 1);
    }
  }
  [0, ...nodes].forEach((node, i) => {
    legendre(2 * node - 1, values);
    at.set(values, i * NODES);
  });
  // A = integrals powers^-1, so A^-1 = powers integrals^-1
  const inner = inverted(integrals, STAGES);
  const inverse = new Float64Array(STAGES * STAGES);
  for (let i = 0; i < STAGES; i++) {
    for (let j = 0; j < STAGES; j++) {
      let sum = 0;
      for (let l = 0; l < STAGES; l++) sum += powers[i * STAGES + l]! * inner[l * STAGES + j]!;
      inverse[i * STAGES + j] = sum;
    }
  }
  return { nodes, inverse, shape: inverted(at, NODES) };
}

const METHOD = method();

/** A solution from time 0 on, as far as it was asked for. */
export class Solution {
  /** Ends of the steps so far, the first of them 0. */
  readonly ends: number[] = [0];
  private readonly pieces: Float64Array[] = [];
  private readonly state: Float64Array;
  private readonly slopes: Float64Array;
  private readonly stage: Float64Array;
  private readonly J: Float64Array;
  private readonly matrix: Float64Array;
  private readonly pivots: Int32Array;
  private readonly Z: Float64Array;
  private readonly change: Float64Array;
  private readonly basis = new Float64Array(NODES);
  private h: number;

  constructor(
    private readonly flow: Flow,
    start: Float64Array,
  ) {
    const m = flow.size;
    this.state = start.slice();
    this.slopes = new Float64Array(m);
    this.stage = new Float64Array(m);
    this.J = new Float64Array(m * m);
    this.matrix = new Float64Array((STAGES * m) ** 2);
    this.pivots = new Int32Array(STAGES * m);
    this.Z = new Float64Array(STAGES * m);
    this.change = new Float64Array(STAGES * m);
    flow.field(this.state, this.slopes);
    flow.jacobian(this.state, this.J);
    const largest = (values: Float64Array) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    this.h = 0.1 / (largest(this.slopes) + largest(this.J));
  }

  /** The time up to which the solution is there. */
  get end(): number {
    return this.ends[this.ends.length - 1]!;
  }

  /** The number of steps so far. */
  get steps(): number {
    return this.pieces.length;
  }

  /** Take one more step, shortened until it is resolved. */
  advance(): void {
    const m = this.flow.size;
    for (let trial = 0; trial < 60; trial++) {
      const settled = this.newton();
      const piece = settled ? this.coefficients() : null;
      let last = 0;
      if (piece) {
        for (let i = 0; i < m; i++) last = Math.max(last, Math.abs(piece[STAGES * m + i]!));
      }
      const unresolved = last / TOLERANCE;
      const factor = piece ? Math.min(Math.max(0.85 * Math.max(unresolved, 1e-12) ** -0.2, 0.2), 6) : 0.4;
      const taken = this.h;
      this.h *= factor;
      if (piece && unresolved <= 1) {
        this.pieces.push(piece);
        this.ends.push(this.end + taken);
        for (let i = 0; i < m; i++) this.state[i]! += this.Z[(STAGES - 1) * m + i]!;
        return;
      }
    }
    throw new Error("a step could not be resolved");
  }

  /** Go on until `time` is covered. */
  cover(time: number): void {
    while (this.end < time && this.steps < MOST_STEPS) this.advance();
  }

  /** The numbers at `time`, within step `step` (see `find`), into `out`. */
  at(time: number, step: number, out: Float64Array): void {
    const m = this.flow.size;
    const low = this.ends[step]!;
    const piece = this.pieces[step]!;
    legendre((2 * (time - low)) / (this.ends[step + 1]! - low) - 1, this.basis);
    for (let i = 0; i < m; i++) {
      let sum = piece[NODES * m + i]!;
      for (let n = 0; n < NODES; n++) sum += this.basis[n]! * piece[n * m + i]!;
      out[i] = sum;
    }
  }

  /** The step that holds `time`, from `step` on upwards. */
  find(time: number, step = 0): number {
    while (step < this.steps - 1 && this.ends[step + 1]! < time) step++;
    return step;
  }

  /** Solve for the stages of a step of h by Newton's method; whether that settled. */
  private newton(): boolean {
    const { flow, h, matrix, Z, change } = this;
    const m = flow.size;
    const whole = STAGES * m;
    flow.jacobian(this.state, this.J);
    for (let a = 0; a < STAGES; a++) {
      for (let b = 0; b < STAGES; b++) {
        const own = METHOD.inverse[a * STAGES + b]!;
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < m; j++) {
            const diagonal = (i === j ? own : 0) - (a === b ? h * this.J[i * m + j]! : 0);
            matrix[(a * m + i) * whole + b * m + j] = diagonal;
          }
        }
      }
    }
    factorise(matrix, whole, this.pivots);
    this.guess();
    let before = Infinity;
    for (let iteration = 0; iteration < NEWTON; iteration++) {
      for (let a = 0; a < STAGES; a++) {
        for (let i = 0; i < m; i++) this.stage[i] = this.state[i]! + Z[a * m + i]!;
        flow.field(this.stage, this.slopes);
        for (let i = 0; i < m; i++) {
          let sum = h * this.slopes[i]!;
          for (let b = 0; b < STAGES; b++) sum -= METHOD.inverse[a * STAGES + b]! * Z[b * m + i]!;
          change[a * m + i] = sum;
        }
      }
      solve(matrix, whole, this.pivots, change);
      let moved = 0;
      for (let i = 0; i < whole; i++) {
        Z[i]! += change[i]!;
        moved = Math.max(moved, Math.abs(change[i]!));
      }
      if (moved <= SETTLED) return true;
      // The first correction is most of the whole, so how much smaller the second is tells nothing of the rate.
      if (!Number.isFinite(moved) || (iteration > 1 && moved > 0.5 * before)) return false;
      before = moved;
    }
    return false;
  }

  /** Where Newton's method begins: on the last step's polynomial, if this one is not much longer. */
  private guess(): void {
    const { h, Z } = this;
    const m = this.flow.size;
    const piece = this.pieces[this.steps - 1];
    const ratio = piece ? h / (this.end - this.ends[this.steps - 1]!) : Infinity;
    Z.fill(0);
    if (!piece || ratio > 1.5) return;
    for (let a = 0; a < STAGES; a++) {
      legendre(1 + 2 * ratio * METHOD.nodes[a]!, this.basis);
      for (let i = 0; i < m; i++) {
        let sum = piece[NODES * m + i]! - this.state[i]!;
        for (let n = 0; n < NODES; n++) sum += this.basis[n]! * piece[n * m + i]!;
        Z[a * m + i] = sum;
      }
    }
  }

  /** Legendre coefficients of how far the numbers have moved, then the numbers at the start of the step. */
  private coefficients(): Float64Array {
    const m = this.flow.size;
    const piece = new Float64Array((NODES + 1) * m);
    for (let n = 0; n < NODES; n++) {
      for (let a = 0; a < STAGES; a++) {
        const factor = METHOD.shape[n * NODES + a + 1]!;
        for (let i = 0; i < m; i++) piece[n * m + i]! += factor * this.Z[a * m + i]!;
      }
    }
    piece.set(this.state, NODES * m);
    return piece;
  }
}
