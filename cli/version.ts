/** Who we are, from package.json: one folder up from the sources, two from dist/cli. */
import { readFileSync } from "node:fs";

function read(): string {
  for (const path of ["../package.json", "../../package.json"]) {
    let text: string;
    try {
      text = readFileSync(new URL(path, import.meta.url), "utf8");
    } catch {
      continue;
    }
    const { name, version } = JSON.parse(text) as { name?: string; version?: string };
    if (name === "ringwire" && version !== undefined) return version;
  }
  throw new Error("package.json is missing: the installation is not whole");
}

export const VERSION = read();
/** How this program names itself to its peers. */
export const AGENT = `ringwire/${VERSION}`;
