/**
 * Says in one sentence that this Node is too old; undefined when it is new enough.
 *
 * This file imports nothing and uses nothing recent, because an old Node must be able to parse it.
 */
const OLDEST_MAJOR = 22;
const OLDEST_MINOR = 12;

/** Checks `version`, in the form of process.versions.node: "22.12.0". */
export function tooOld(version: string): string | undefined {
  const parts = version.split(".");
  const major = Number(parts[0]);
  const minor = Number(parts[1]);
  if (major > OLDEST_MAJOR || (major === OLDEST_MAJOR && minor >= OLDEST_MINOR)) return undefined;
  return `ringwire needs Node ${OLDEST_MAJOR}.${OLDEST_MINOR} or newer, and this is Node ${version}: install a newer one (https://nodejs.org), or in a checkout run "npx ringwire", which finds the Node that npm ci brought.`;
}
