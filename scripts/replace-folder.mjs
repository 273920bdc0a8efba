// Puts one folder in the place of another. No system call of Node's exchanges two folders, so the
// place is empty between two renames.
import { renameSync, rmSync } from "node:fs";

/** Each try fails only when another build finished between two system calls. */
const TRIES = 100;

/**
 * Renames `old` to `retired`, renames `fresh` to `old`, and removes `retired`. Of several builds at
 * once the last one stays. Throws the system's error when `fresh` can't get there; then what was
 * at `old` is there again.
 */
export function replaceFolder(old, fresh, retired) {
  for (let tries = 1; ; tries++) {
    try {
      renameSync(old, retired);
    } catch (error) {
      // Absent: the first build, or another build is between its two renames.
      if (error.code !== "ENOENT") throw error;
    }
    try {
      renameSync(fresh, old);
      break;
    } catch (error) {
      // Another build put its own there in between.
      const isThere = ["ENOTEMPTY", "EEXIST"].includes(error.code);
      if (!isThere || tries === TRIES) throw putBack(old, retired, error);
      rmSync(retired, { recursive: true, force: true });
    }
  }
  try {
    rmSync(retired, { recursive: true, force: true });
  } catch (error) {
    console.error(`${old}/ is new. The one before it can't be removed: ${error.message}`);
  }
}

/** The error to throw: `why`, and where the old folder is when that can't be put back either. */
function putBack(old, retired, why) {
  try {
    renameSync(retired, old);
  } catch (error) {
    // Nothing was there before, or another build's is there now.
    if (["ENOENT", "ENOTEMPTY", "EEXIST"].includes(error.code)) return why;
    why.keptAt = retired;
  }
  return why;
}
