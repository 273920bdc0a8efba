// Writes the manual page of a compiled program: man.mjs FOLDER makes FOLDER/man/ringwire.1.
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = resolve(process.argv[2]);
const load = (file) => import(pathToFileURL(`${folder}/cli/${file}`).href);
const { commandLine } = await load("main.js");
const { manPage } = await load("help/man-page.js");
writeFileSync(`${folder}/man/ringwire.1`, manPage(await commandLine()));
