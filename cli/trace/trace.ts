/** --trace: prints the batches of the link's taps on stderr. Loaded only with the flag. */
import type { LinkTap } from "../../shared/wire/link.ts";

/** Returns a function that makes a tap for a link. Each tap remembers its own doorbells. */
export async function traceTap(): Promise<(name: string) => LinkTap> {
  const { Tracer } = await import("./wire.ts");
  return (name) => {
    const tracer = new Tracer();
    return (direction, batch) => {
      for (const line of tracer.trace(direction, batch)) process.stderr.write(`${name} ${line}\n`);
    };
  };
}
