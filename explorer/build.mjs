// Makes the page, one file that needs no network; with --numerics, the computations alone as a module for tests.
import { build } from "esbuild";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const here = (path) => new URL(path, import.meta.url).pathname;

if (process.argv.includes("--numerics")) {
  await build({
    entryPoints: [here("src/numerics.ts")],
    bundle: true,
    format: "esm",
    outfile: here("build/numerics.mjs"),
  });
} else {
  const { outputFiles } = await build({
    entryPoints: [here("src/main.ts")],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
    outdir: here("build"),
  });
  const text = (suffix) => outputFiles.find((file) => file.path.endsWith(suffix)).text;
  // "</script" within a string would end the script of the page.
  const script = text(".js").replaceAll("</script", "<\\/script");
  // What the licence of the charts' library asks of whoever hands it on.
  const licence = readFileSync(here("node_modules/uplot/LICENSE"), "utf8").trim();
  const page = readFileSync(here("src/page.html"), "utf8")
    .replace("<head>", () => `<!--\nThe charts are drawn by uPlot.\n\n${licence}\n-->\n<head>`)
    .replace("/* style */", () => text(".css").trim())
    .replace("/* script */", () => script.trim());
  const out = here("../ssm/explorer.html");
  mkdirSync(here("../ssm"), { recursive: true });
  writeFileSync(out, page);
  console.log(`ssm/explorer.html: ${(Buffer.byteLength(page) / 1024).toFixed(1)} KiB`);
}
