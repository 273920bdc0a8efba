/** Version of this program. package.json is one folder above the sources, two above dist/cli. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

function read(): { version: string; folder: URL } {
  for (const path of ["../../", "../../../"]) {
    const folder = new URL(path, import.meta.url);
    const file = new URL("package.json", folder);
    if (!existsSync(file)) continue;
    const text = readFileSync(file, "utf8");
    const { name, version } = JSON.parse(text) as { name?: string; version?: string };
    if (name === "ringwire" && version !== undefined) return { version, folder };
  }
  throw new Error("package.json is missing: the installation is not whole");
}

const { version, folder } = read();
export const VERSION = version;
/** Path of this installation's README.md. */
export const README = fileURLToPath(new URL("README.md", folder));
/** Name and version that this program sends to its peers. */
export const AGENT = `ringwire/${VERSION}`;
