/** The computations of the page without the page, for tests. */

export { viewOf } from "./model";
export { balance, spectrum, problemOf } from "./problem";
export { commands, table } from "./command";
export { DEFAULTS, SLIDERS, fromAddress, toAddress } from "./settings";
