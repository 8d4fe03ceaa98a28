// Laws of the computations, without a browser: closed forms, symmetries, and no place of the sliders that stalls.
import assert from "node:assert/strict";
import { test } from "node:test";

import { balance, DEFAULTS, fromAddress, problemOf, SLIDERS, spectrum, toAddress, viewOf } from "../build/numerics.mjs";

// What a step may leave out of a logarithm is 3e-8.
const CLOSE = 1e-6;

function close(found, expected, words) {
  for (let i = 0; i < found.length; i++) {
    const off = Math.abs(found[i] - expected[i]) / Math.max(1, Math.abs(expected[i]));
    assert.ok(off < CLOSE, `${words}: ${found[i]} is not ${expected[i]}`);
  }
}

test("every component of unweighted free features under the squared loss is a sigmoid", () => {
  const view = viewOf({ ...DEFAULTS, loss: "squared", ratio: 300, fraction: 0.3 });
  const { problem } = view.erm;
  const start = DEFAULTS.scale ** 2;
  spectrum(problem).forEach(({ value }, i) => {
    const expected = view.times.map((t) => 1 / (1 + (value / start - 1) * Math.exp((-2 * value * t) / problem.samples)));
    close(view.erm.blocks[i], expected, `component ${i}`);
  });
});

test("classes of one size are learned alike, whatever the exponent", () => {
  for (const loss of ["squared", "cross_entropy"]) {
    const { erm, weighted } = viewOf({ ...DEFAULTS, loss, ratio: 1, exponent: 1.7, coupling: 0.3 });
    close(weighted.margins[0], erm.margins[0], loss);
    close(erm.margins[1], erm.margins[0], loss);
    close(erm.blocks[0], erm.blocks[2], loss);
  }
});

test("margins of two classes grow alike at the exponent that balances them", () => {
  // From starts in which they are alike: free features, where the exponent is 0.
  const free = { ...DEFAULTS, classes: 2, ratio: 1e4, exponent: 0 };
  assert.deepEqual(balance(free), { exponent: 0, of: "margins" });
  const { erm } = viewOf(free);
  close(erm.margins[0], erm.margins[1], "margins");
});

test("shared features are balanced by inverse frequency, free ones by its root", () => {
  assert.ok(Math.abs(balance({ ...DEFAULTS, coupling: 1 }).exponent - 1) < 1e-12);
  assert.ok(Math.abs(balance({ ...DEFAULTS, coupling: 0 }).exponent - 0.5) < 1e-12);
  const [majority, cross, minority] = spectrum(problemOf(DEFAULTS, 0.5));
  assert.ok(Math.abs(majority.value / minority.value - 1) < 1e-12);
  assert.ok(Math.abs(majority.value / cross.value - 1) < 1e-12);
});

test("predictions are shares: at first alike, in the end right", () => {
  for (const loss of ["squared", "cross_entropy"]) {
    const view = viewOf({ ...DEFAULTS, loss });
    const [a, b] = view.erm.problem.sizes;
    for (const time of [view.times[0], view.times[200], view.times.at(-1)]) {
      const { own, same, other } = view.weighted.predicted(time);
      assert.ok(Math.abs(own[0] + (a - 1) * same[0] + b * other[0] - 1) < 1e-12);
      assert.ok(Math.abs(own[1] + (b - 1) * same[1] + a * other[1] - 1) < 1e-12);
    }
    assert.ok(Math.abs(view.erm.predicted(view.times[0]).own[1] - 1 / DEFAULTS.classes) < 0.01);
    assert.ok(Math.min(...view.erm.predicted(view.times.at(-1)).own) > 0.99);
  }
});

test("every corner of the sliders has a view, and most of it is soon there", () => {
  const fields = SLIDERS.map(({ field, low, high }) => [field, [low, high]]);
  const took = [];
  for (let corner = 0; corner < 2 ** (fields.length + 1); corner++) {
    const settings = { ...DEFAULTS, loss: corner >> fields.length ? "squared" : "cross_entropy" };
    fields.forEach(([field, ends], i) => (settings[field] = ends[(corner >> i) & 1]));
    const begun = process.cpuUsage();
    const view = viewOf(settings);
    const { user, system } = process.cpuUsage(begun);
    took.push((user + system) / 1000);
    for (const { blocks, margins } of [view.erm, view.weighted]) {
      assert.ok([...blocks.filter((b) => !Number.isNaN(b[0])), ...margins].every((line) => line.every(Number.isFinite)), JSON.stringify(settings));
    }
  }
  took.sort((x, y) => x - y);
  const at = (share) => took[Math.floor(share * (took.length - 1))].toFixed(1);
  console.log(`a view at ${took.length} corners: median ${at(0.5)} ms of CPU, 95th percentile ${at(0.95)}, longest ${at(1)}`);
});

test("an address keeps a view to the last digit", () => {
  const settings = { ...DEFAULTS, ratio: 1234.5678901234567, exponent: 0.1 + 0.2, loss: "squared" };
  const { settings: found, time } = fromAddress(toAddress(settings, 1234.5));
  assert.deepEqual(found, settings);
  assert.equal(time, 1234.5);
});
