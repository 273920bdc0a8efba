/**
 * Variables of the environment that begin with RINGWIRE_ and mean nothing: most likely misspelt. That
 * is a warning and no error, since others put such names there too: Kubernetes does for every service
 * that is called ringwire.
 */
import type { Command } from "commander";
import { similar } from "./similar.ts";

/** Variables that are no flags, and who reads them. */
const OTHERS = [
  // The log; the file of options.
  ...["RINGWIRE_LOG", "RINGWIRE_CONFIG"],
  // The program in Wireshark's extcap folder.
  ...["RINGWIRE_BIN", "RINGWIRE_NODE"],
  // The tests.
  ...["RINGWIRE_SEED", "RINGWIRE_SOAK", "RINGWIRE_STRICT_SKIPS"],
];
/** Where the tests have more of them. */
const TEST = "RINGWIRE_TEST_";
/** Kubernetes: for each service NAME_SERVICE_HOST, NAME_PORT_7700_TCP_ADDR and the like. */
const SERVICE = /_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$/;
/** Its NAME_PORT looks like a flag; its value does not. */
const SERVICE_VALUE = /^(tcp|udp|sctp):\/\//;

/** The variable of a flag: RINGWIRE_WHEN_FULL for --when-full. */
export const variableOf = (flag: string): string =>
  `RINGWIRE_${flag.replace(/^--/, "").replaceAll("-", "_").toUpperCase()}`;

/** One sentence for each variable that no command of `program` knows. */
export function unknownVariables(program: Command, env: NodeJS.ProcessEnv): string[] {
  const flags = program.commands.flatMap((command) => command.options);
  const known = new Set(OTHERS);
  for (const { long } of flags) if (long !== undefined) known.add(variableOf(long));
  return Object.keys(env)
    .filter((name) => name.startsWith("RINGWIRE_") && !known.has(name) && !name.startsWith(TEST))
    .filter((name) => !isOfService(name, env[name] ?? ""))
    .map((name) => {
      const meant = similar(name, [...known]);
      return `${name} in the environment is no variable of ringwire${meant && ` (Did you mean ${meant}?)`}`;
    });
}

function isOfService(name: string, value: string): boolean {
  if (!SERVICE.test(name)) return false;
  return !/_PORT$/.test(name) || SERVICE_VALUE.test(value) || /_SERVICE_PORT$/.test(name);
}
