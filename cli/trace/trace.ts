/** --trace: what the link's taps see, in lines on stderr. Loaded only when asked for. */
import type { LinkTap } from "../../shared/wire/link.ts";

/** Makes a tap for each link, so that each remembers its own doorbells. */
export async function traceTap(): Promise<(name: string) => LinkTap> {
  const { Tracer } = await import("./wire.ts");
  return (name) => {
    const tracer = new Tracer();
    return (direction, batch) => {
      for (const line of tracer.trace(direction, batch)) process.stderr.write(`${name} ${line}\n`);
    };
  };
}
