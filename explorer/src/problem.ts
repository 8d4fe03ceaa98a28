/** A problem of two groups of equal classes, STEP, by the numbers of each group: majority, then minority. */

export type Loss = "squared" | "cross_entropy";
export type Pair = readonly [number, number];

/** What the sliders say. */
export interface Settings {
  /** R, samples of a majority class over samples of a minority class. */
  ratio: number;
  /** rho, the fraction of classes that are minorities. */
  fraction: number;
  /** k. */
  classes: number;
  /** n_min, samples of a minority class. */
  smallest: number;
  /** g of the class weights, w_c ~ n_c^-g. */
  exponent: number;
  /** c, how far training a sample moves the features of its class. */
  coupling: number;
  /** init_scale: every component starts at the product strength init_scale^2. */
  scale: number;
  loss: Loss;
}

export interface Problem {
  /** k_g, classes of each group. */
  sizes: Pair;
  /** n_g, samples of a class. */
  counts: Pair;
  /** n, all samples. */
  samples: number;
  /** w_g, of unit mean over samples. */
  weights: Pair;
  /** kappa_g = 1 + c (n_g - 1). */
  kernel: Pair;
  /** product strength of every component at the start. */
  start: number;
}

const pair = (of: (g: 0 | 1) => number): Pair => [of(0), of(1)];

/** Nearest integer, a half to the even one, as Python rounds. */
export function rounded(x: number): number {
  const low = Math.floor(x);
  const half = x - low === 0.5;
  return half ? low + (low % 2) : Math.round(x);
}

/** How many classes are minorities: round(rho k), at least one and not all. */
export function minorityClasses(settings: Settings): number {
  const number = rounded(settings.fraction * settings.classes);
  return Math.min(Math.max(number, 1), settings.classes - 1);
}

/** The problem of the settings, with class weights of exponent g. */
export function problemOf(settings: Settings, exponent: number): Problem {
  const few = minorityClasses(settings);
  const sizes: Pair = [settings.classes - few, few];
  const counts: Pair = [rounded(settings.ratio * settings.smallest), settings.smallest];
  const samples = sizes[0] * counts[0] + sizes[1] * counts[1];
  const reference = exponent > 0 ? counts[1] : counts[0]; // so that no power of a ratio overflows
  const powers = pair((g) => (counts[g] / reference) ** -exponent);
  const mean = (sizes[0] * counts[0] * powers[0] + sizes[1] * counts[1] * powers[1]) / samples;
  return {
    sizes,
    counts,
    samples,
    weights: pair((g) => powers[g] / mean),
    kernel: pair((g) => 1 + settings.coupling * (counts[g] - 1)),
    start: settings.scale ** 2,
  };
}

/** r_g = w_g sqrt(n_g kappa_g) / n, at which the contrasts within a group grow. */
export function growthRates(p: Problem): Pair {
  return pair((g) => (p.weights[g] * Math.sqrt(p.counts[g] * p.kernel[g])) / p.samples);
}

/** f_g = sqrt(kappa_g / n_g): a contrast of product strength x is a difference x f_g of mean logits. */
export function featureFactors(p: Problem): Pair {
  return pair((g) => Math.sqrt(p.kernel[g] / p.counts[g]));
}

/** u of the contrast between the groups: its entry for a class of each group. */
export function crossVector(p: Problem): Pair {
  const [a, b] = p.sizes;
  return [Math.sqrt(b / (a * (a + b))), -Math.sqrt(a / (b * (a + b)))];
}

/** s_g = sqrt(k_g n_g) u_g, what u^T S has on the unit indicator of each group's samples. */
export function crossTargets(p: Problem): Pair {
  const u = crossVector(p);
  return pair((g) => Math.sqrt(p.sizes[g] * p.counts[g]) * u[g]);
}

/** Where the cross component of a balanced spectral start has its features: sqrt(kappa_g) |s_g|, of length 1. */
export function crossStart(p: Problem): Pair {
  const s = crossTargets(p);
  const along = pair((g) => Math.sqrt(p.kernel[g]) * Math.abs(s[g]));
  const length = Math.hypot(...along);
  return pair((g) => along[g] / length);
}

/** A block of singular values of the weighted label matrix S Omega. */
export interface Multiplet {
  block: "majority" | "cross" | "minority";
  value: number;
  multiplicity: number;
}

/**
 * The nonzero singular values of S Omega: w_g sqrt(n_g) within a group, k_g - 1 times, and once
 * sqrt(rho n_maj w_maj^2 + (1 - rho) n_min w_min^2).
 */
export function spectrum(p: Problem): Multiplet[] {
  const [a, b] = p.sizes;
  const [large, small] = pair((g) => p.weights[g] ** 2 * p.counts[g]);
  const cross = Math.sqrt((b * large + a * small) / (a + b));
  return [
    { block: "majority", value: Math.sqrt(large), multiplicity: a - 1 },
    { block: "cross", value: cross, multiplicity: 1 },
    { block: "minority", value: Math.sqrt(small), multiplicity: b - 1 },
  ];
}

/** What the balancing exponent is about, and the exponent; null where there is none. */
export interface Balance {
  exponent: number | null;
  of: "contrasts" | "margins" | "none";
}

/**
 * g* = 1/2 + 1/2 log(kappa_maj / kappa_min) / log R, at which contrasts of both groups grow alike; of two classes,
 * which have no contrasts within groups, log(kappa_maj / kappa_min) / log R, at which their margins do. R = 1
 * is balanced by every exponent, and where one group alone is a single class there is no such exponent.
 */
export function balance(settings: Settings): Balance {
  const p = problemOf(settings, 0);
  const [a, b] = p.sizes;
  const log = Math.log(p.counts[0] / p.counts[1]);
  if (log === 0) return { exponent: null, of: a > 1 && b > 1 ? "contrasts" : "margins" };
  const share = Math.log(p.kernel[0] / p.kernel[1]) / log;
  if (a > 1 && b > 1) return { exponent: 0.5 + 0.5 * share, of: "contrasts" };
  if (a === 1 && b === 1) return { exponent: share, of: "margins" };
  return { exponent: null, of: "none" };
}
