import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { ExitCode, Failure } from "../../cli/common/failure.ts";
import { addCommonFlags, CommonShape, readOptions } from "../../cli/common/options.ts";
import { deviceCommand } from "../../cli/device.ts";
import { deviceOptions } from "../../cli/device-options.ts";
import { manPage } from "../../cli/help/man-page.ts";
import { commandLine } from "../../cli/main.ts";
import { ENA_OPTIONS } from "../../device/ena/options.ts";
import { XEN_OPTIONS } from "../../device/xen/options.ts";

const folder = mkdtempSync(join(tmpdir(), "ringwire-options-"));
afterAll(() => rmSync(folder, { recursive: true }));

const Shape = z.object({ ...CommonShape, deviceOption: deviceOptions.prefault([]) });

function read(args: readonly string[], env: Record<string, string> = {}) {
  const command = addCommonFlags(new Command("device").option("--device-option <key=value...>"));
  command.exitOverride().parse([...args], { from: "user" });
  return readOptions(command, Shape, env).deviceOption;
}

describe("guest-6 --device-option", () => {
  it("guest-6 gives each model its own", () => {
    expect(read([])).toEqual({ ena: {}, xen: {} });
    const args = ["--device-option", "completionOrder=shuffle", "seed=7", "trusted=false"];
    expect(read([...args, "--device-option", "rate=1000/50"])).toEqual({
      ena: { completionOrder: "shuffle", seed: 7 },
      xen: { trusted: false, rate: "1000,50" },
    });
  });

  it("guest-6 stands in the environment and in a config file", () => {
    const env = { RINGWIRE_DEVICE_OPTION: "disableMetaCaching=true,rate=1/2" };
    expect(read([], env)).toEqual({ ena: { disableMetaCaching: true }, xen: { rate: "1,2" } });
    // A flag replaces the whole list.
    expect(read(["--device-option", "readless=false"], env)).toEqual({
      ena: { readless: false },
      xen: {},
    });
    const file = join(folder, "config.json");
    const option = ["rate=1,2", "rssKeyOrder=asSent"];
    writeFileSync(file, JSON.stringify({ device: { "device-option": option } }));
    expect(read(["--config", file])).toEqual({
      ena: { rssKeyOrder: "asSent" },
      xen: { rate: "1,2" },
    });
  });

  const keys = [...Object.keys(ENA_OPTIONS), ...Object.keys(XEN_OPTIONS)];
  it.each([
    ["latency=3", `takes KEY=VALUE, not "latency=3"; the keys are ${keys.join(", ")}`],
    ["readless", `takes KEY=VALUE, not "readless"; the keys are ${keys.join(", ")}`],
    ["", `takes KEY=VALUE, not ""; the keys are ${keys.join(", ")}`],
    ["__proto__=1", `takes KEY=VALUE, not "__proto__=1"; the keys are ${keys.join(", ")}`],
    ["toString=1", `takes KEY=VALUE, not "toString=1"; the keys are ${keys.join(", ")}`],
    [
      "completionOrder=lifo",
      `completionOrder takes fifo or shuffle, not "lifo"; the keys are ${keys.join(", ")}`,
    ],
    ["readless=", `readless takes true or false, not ""; the keys are ${keys.join(", ")}`],
    ["readless=TRUE", `readless takes true or false, not "TRUE"; the keys are ${keys.join(", ")}`],
    ["seed=0", `seed takes 1 to 999999999, not "0"; the keys are ${keys.join(", ")}`],
    ["seed=1e3", `seed takes 1 to 999999999, not "1e3"; the keys are ${keys.join(", ")}`],
    ["rate=0/1", `rate takes BYTES/USEC, not "0/1"; the keys are ${keys.join(", ")}`],
  ])("guest-6 refuses %j and lists the keys", (text, message) => {
    expect(() => read(["--device-option", text])).toThrow(
      new Failure(`--device-option ${message}`, ExitCode.USAGE),
    );
    if (text === "") return;
    expect(() => read([], { RINGWIRE_DEVICE_OPTION: text })).toThrow(
      new Failure(`--device-option ${message} (from RINGWIRE_DEVICE_OPTION)`, ExitCode.USAGE),
    );
  });

  it("guest-6 refuses a key that is given twice", () => {
    expect(() => read(["--device-option", "seed=1", "seed=2"])).toThrow(/seed is given twice$/);
  });

  it("guest-6 --help lists each key with its values and its meaning", () => {
    const command = deviceCommand().configureHelp({ helpWidth: 80 });
    let page = "";
    command.configureOutput({ writeOut: (text) => (page += text) });
    command.outputHelp();
    for (const [key, option] of Object.entries({ ...ENA_OPTIONS, ...XEN_OPTIONS })) {
      const { values, description } = option.meta() as Record<string, string>;
      expect(page).toContain(`  ${key}=${values?.replaceAll(" or ", "|")} `);
      expect(page.replaceAll(/\s+/g, " ")).toContain(description);
    }
    expect(page.split("\n").filter((line) => line.length > 80)).toEqual([]);
  });

  it("guest-6 the manual page lists them too", async () => {
    const page = manPage(await commandLine());
    expect(keys.filter((key) => !page.includes(`  ${key}=`))).toEqual([]);
  });
});
