// Joins the modules of a compiled command: bundle.mjs FOLDER puts a FOLDER/cli/ringwire.js in place
// that loads a few files of FOLDER/command instead of hundreds. A command starts in two thirds of
// the processor time then. The library and the workers stay as they were compiled.
//
// zod goes in as well, because by itself it loads the words of sixty languages. Its licence stands
// in its package, which the library needs beside this.
import { readFileSync } from "node:fs";
import { relative, resolve, sep } from "node:path";
import { build } from "esbuild";

const out = resolve(process.argv[2]);
const CHUNKS = "command";

/** A joined module still finds its worker, its plugin and package.json from its own place. */
const places = {
  name: "places",
  setup({ onLoad }) {
    onLoad({ filter: /\.js$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      if (!path.startsWith(out + sep) || !text.includes("import.meta.url")) return undefined;
      const place = JSON.stringify(`../${relative(out, path).replaceAll(sep, "/")}`);
      return {
        contents: text.replaceAll("import.meta.url", `new URL(${place}, import.meta.url).href`),
      };
    });
  },
};

await build({
  absWorkingDir: out,
  entryPoints: [`${out}/cli/ringwire.js`],
  outbase: out,
  outdir: out,
  chunkNames: `${CHUNKS}/[name]-[hash]`,
  allowOverwrite: true,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node22",
  external: ["commander", "koffi", "msgpackr", "pino", "prom-client", "ws"],
  plugins: [places],
  logLevel: "warning",
});
