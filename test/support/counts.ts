/**
 * How many cases a property runs: all of them in a soak, a tenth otherwise, for blocks that would
 * take longer than 20 s in every run of the tests.
 */
export function cases(all: number): number {
  return process.env["RINGWIRE_SOAK"] === "1" ? all : Math.ceil(all / 10);
}
