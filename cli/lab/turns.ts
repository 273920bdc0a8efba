/** Work on many things, a few at a time. */
import { availableParallelism } from "node:os";

/** Things in work at once: a process that starts waits for a part of its time. */
const AT_ONCE = 2 * availableParallelism();

/** Runs `work` for each of `things`. After a failure it begins no other, and rejects with the first. */
export async function inTurns<T>(
  things: readonly T[],
  work: (thing: T) => Promise<void>,
): Promise<void> {
  const rest = [...things];
  let failed = false;
  const one = async (): Promise<void> => {
    for (let next = rest.shift(); next !== undefined && !failed; next = rest.shift()) {
      try {
        await work(next);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const all = await Promise.allSettled(Array.from({ length: AT_ONCE }, one));
  const broken = all.find((result) => result.status === "rejected");
  if (broken !== undefined) throw broken.reason;
}
