/**
 * Finds environment variables that begin with RINGWIRE_ and have no meaning, most likely misspelt.
 * They cause a warning and not an error, because other programs set such names, too: Kubernetes
 * sets them for every service called ringwire.
 */
import type { Command } from "commander";
import { similar } from "./similar.ts";

/** Variables that are not flags, by the program that reads them. */
const OTHERS = [
  // Every command: the log, and the file of options.
  ...["RINGWIRE_LOG", "RINGWIRE_CONFIG", "RINGWIRE_REACTOR"],
  // The parts of a lab: which lab, and which part.
  "RINGWIRE_LAB",
  // The program in Wireshark's extcap folder.
  ...["RINGWIRE_BIN", "RINGWIRE_NODE"],
  // The tests.
  ...["RINGWIRE_SEED", "RINGWIRE_SOAK", "RINGWIRE_STRICT_SKIPS"],
];
/** Prefix of further variables of the tests. */
const TEST = "RINGWIRE_TEST_";
/** Variables that Kubernetes sets for a service: NAME_SERVICE_HOST, NAME_PORT_7700_TCP_ADDR ... */
const SERVICE = /_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$/;
/** Value of Kubernetes' NAME_PORT. The name could be that of a flag; the value could not. */
const SERVICE_VALUE = /^(tcp|udp|sctp):\/\//;

/** Returns the variable of a flag: RINGWIRE_WHEN_FULL for --when-full. */
export const variableOf = (flag: string): string =>
  `RINGWIRE_${flag.replace(/^--/, "").replaceAll("-", "_").toUpperCase()}`;

/** Returns one sentence for each variable that no command of `program` reads. */
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
