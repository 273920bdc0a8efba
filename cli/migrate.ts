/** `ringwire migrate`: has a device suspend a NIC and name the device where it goes on. */
import { Command } from "commander";
import { z } from "zod";
import { postPage } from "./device-page.ts";
import { ExitCode, Failure } from "./failure.ts";
import { addCommonFlags, CommonShape, nicName, readOptions, target } from "./options.ts";
import { Output } from "./output.ts";

/** The driver suspends and the connection ends: seconds, where the device is busy. */
const MOVE_MS = 20_000;

const Shape = z.object({
  ...CommonShape,
  connect: target.default("http://127.0.0.1:7700"),
  to: target,
});

export function migrateCommand(): Command {
  const command = new Command("migrate")
    .description("Moves a running NIC to another device: suspend here, resume there.")
    .argument("<nic>", "name of the NIC, as status shows it")
    .option("--connect <url>", "the device that has it: http://HOST:PORT (127.0.0.1:7700)")
    .option("--to <url>", "the device that gets it, as its frontend can reach it");
  return addCommonFlags(command)
    .addHelpText("before", EXAMPLES)
    .action(async (nic: string, _flags: unknown, self: Command) => {
      const options = readOptions(self, Shape);
      const name = nicName.safeParse(nic);
      if (!name.success) {
        throw new Failure(`"${nic}" is no name of a NIC`, ExitCode.USAGE);
      }
      const body = { nic: name.data, to: options.to };
      const { status, value } = await postPage(options.connect, "/migrate", body, MOVE_MS);
      if (status !== 200) throw new Failure(reasonOf(value));
      const text = `${name.data} left for ${options.to}`;
      new Output(options.json).event(text, { event: "moved", ...body });
    });
}

const reasonOf = (value: object): string =>
  "error" in value && typeof value.error === "string" ? value.error : "the device refused";

const EXAMPLES = `Examples:
  ringwire migrate xn0 --to ws://OTHER:7700                       from the device on this machine
  ringwire migrate xn0 --connect http://HOST:7700 --to OTHER:7700
`;
