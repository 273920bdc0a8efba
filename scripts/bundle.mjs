// Joins the modules of a compiled command: bundle.mjs FOLDER puts a FOLDER/cli/ringwire.js in place
// that loads a few files of FOLDER/command instead of hundreds. A command starts in half of the
// processor time then. The library and the workers stay as they were compiled.
//
// The packages go in as well, because finding and reading their many files takes most of the time.
// Their licences stand in the packages, which the library needs beside this. Packages with native
// parts stay outside: such a part is found from its own place. So do those that only `cert` needs: a
// joined module of CommonJS has no names to import.
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

/** An import of node:http loads undici for its getters, which no command needs; this one does not. */
const http = {
  name: "http",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:https?$/ }, ({ path }) => ({ path, namespace: "builtin" }));
    onLoad({ filter: /./, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
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
  external: ["koffi", "msgpackr", "@peculiar/x509", "reflect-metadata"],
  // Packages of CommonJS require modules of Node.
  banner: {
    js: `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);`,
  },
  plugins: [places, http],
  logLevel: "warning",
});
