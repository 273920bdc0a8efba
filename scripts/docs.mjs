// API pages of the library in docs/api, by typedoc: npm run docs. With --check it writes none, and
// fails for what would be wrong with them. It reads the declarations in dist/, so build first.
//
// typedoc needs the compiler as a library, which TypeScript 7 no longer is. A TypeScript 5 stands
// beside ours under another name for this script alone, and typedoc's import is led to it.
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";

registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier === "typescript" ? "typescript-for-typedoc" : specifier, context),
});
process.chdir(fileURLToPath(new URL("..", import.meta.url)));

const { exports } = JSON.parse(readFileSync("package.json", "utf8"));
const entryPoints = Object.values(exports).flatMap(({ types }) =>
  types === undefined ? [] : [types],
);

const { Application } = await import("typedoc");
const app = await Application.bootstrapWithPlugins({
  entryPoints,
  tsconfig: "scripts/tsconfig.docs.json",
  out: "docs/api",
  readme: "README.md",
  // The project's own compiler has checked the types.
  skipErrorChecking: true,
  excludePrivate: true,
  excludeInternal: true,
  disableSources: true,
  validation: { notExported: false, invalidLink: true, notDocumented: true },
  requiredToBeDocumented: ["Class", "Function", "Interface", "Method", "TypeAlias", "Variable"],
  treatValidationWarningsAsErrors: true,
});
const project = await app.convert();
if (project === undefined) process.exit(1);
app.validate(project);
if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exit(1);
if (!process.argv.includes("--check")) await app.generateOutputs(project);
