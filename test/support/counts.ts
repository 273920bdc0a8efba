/** How many cases a property runs: limited by CPU time in the check, all in a soak. */
import fc from "fast-check";

export const SOAK = process.env["RINGWIRE_SOAK"] === "1";
/** CPU time for one property, in ms. */
const BUDGET_MS = 1500;
/** Cases that run whatever the time, as a number and as a share of all. */
const LEAST_RUNS = 15;
const LEAST_SHARE = 0.15;

/** All cases in a soak, a tenth otherwise. */
export const cases = (all: number): number => (SOAK ? all : Math.ceil(all / 10));

/**
 * fast-check's assert, which prints the seed of a failure. Outside of a soak the property ends when
 * its budget is used up and its least number of cases has run.
 */
export const holds = ((property: fc.IProperty<unknown>, parameters: { numRuns: number }) => {
  if (!SOAK) endEarly(property, Math.max(LEAST_RUNS, parameters.numRuns * LEAST_SHARE));
  return fc.assert(property, parameters);
}) as typeof fc.assert;

function endEarly<Ts>(property: fc.IRawProperty<Ts>, least: number): void {
  const run = property.run.bind(property);
  const begin = process.cpuUsage();
  let runs = 0;
  // After a failure the budget no longer applies, so that fast-check can shrink the case.
  let failed = false;
  const spent = (): boolean => {
    const { user, system } = process.cpuUsage(begin);
    return user + system > BUDGET_MS * 1000;
  };
  property.run = (value) => {
    if (!failed && ++runs > least && spent()) {
      const end = new fc.PreconditionFailure(true);
      return property.isAsync() ? Promise.resolve(end) : end;
    }
    const note = <F>(failure: F): F => {
      failed ||= failure !== null;
      return failure;
    };
    const out = run(value);
    return out instanceof Promise ? out.then(note) : note(out);
  };
}
