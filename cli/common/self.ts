/** Child processes that are this program. */
import { fileURLToPath } from "node:url";

/** Returns program and first arguments of a process that runs this program: its sources or dist. */
export function selfCommand(): [string, ...string[]] {
  const isSource = import.meta.url.endsWith(".ts");
  const program = new URL(isSource ? "../ringwire.ts" : "../ringwire.js", import.meta.url);
  return [process.execPath, ...process.execArgv, fileURLToPath(program)];
}

/** Returns the environment without RINGWIRE_ variables, so that a child is the same everywhere. */
export function childEnvironment(): NodeJS.ProcessEnv {
  const mine = Object.entries(process.env).filter(([name]) => !name.startsWith("RINGWIRE_"));
  return Object.fromEntries(mine);
}
