import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { unknownVariables } from "../../cli/common/environment.ts";
import { ExitCode, Failure } from "../../cli/common/failure.ts";
import { isLoopback } from "../../cli/common/listen.ts";
import { wordsOf } from "../../cli/common/log.ts";
import { tooOld } from "../../cli/common/node-version.ts";
import {
  addCommonFlags,
  amount,
  CommonShape,
  hostPort,
  logOptions,
  nicName,
  oneOf,
  readOptions,
  target,
  unicastMac,
  whole,
} from "../../cli/common/options.ts";
import { bytesText, msText, table, topOf } from "../../cli/common/output.ts";
import { prepareConfig } from "../../cli/config/config-file.ts";
import { commandLine } from "../../cli/main.ts";
import { dropsOf, statusLines } from "../../cli/status/text.ts";
import type { NicStatus, PortStatus } from "../../shared/status/device-status.ts";
import { merged, pageOf, statusWith } from "../support/status.ts";

const Shape = z.object({
  ...CommonShape,
  count: whole(1, 9).default(4),
  list: z.array(z.string()).default([]),
  llq: z.boolean().default(true),
  insecure: z.boolean().default(false),
  receive: z.union([z.string(), z.literal(true)]).optional(),
});

function read(args: readonly string[], env: Record<string, string> = {}) {
  const command = addCommonFlags(
    new Command("thing")
      .option("--count <n>")
      .option("--list <name...>")
      .option("--no-llq")
      .option("--insecure")
      .option("--receive [n]"),
  ).exitOverride();
  command.parse([...args], { from: "user" });
  return readOptions(command, Shape, env);
}

describe("layers of options", () => {
  it("defaults stand where nobody says otherwise", () => {
    expect(read([])).toEqual({
      json: false,
      verbose: false,
      quiet: false,
      count: 4,
      list: [],
      llq: true,
      insecure: false,
    });
  });

  it("takes text, lists and switches from the environment", () => {
    const env = { RINGWIRE_COUNT: "7", RINGWIRE_LIST: "a,b", RINGWIRE_NO_LLQ: "1" };
    expect(read([], env)).toMatchObject({ count: 7, list: ["a", "b"], llq: false });
    expect(read(["--count", "2"], env).count).toBe(2);
    expect(read([], { RINGWIRE_COUNT: "" }).count).toBe(4);
  });

  it("a switch can be off in the environment: naming it is not enough", () => {
    expect(read([], { RINGWIRE_INSECURE: "0" }).insecure).toBe(false);
    expect(read([], { RINGWIRE_INSECURE: "true" }).insecure).toBe(true);
    expect(read([], { RINGWIRE_NO_LLQ: "no" }).llq).toBe(true);
    expect(() => read([], { RINGWIRE_INSECURE: "2" })).toThrow(/it can be true or false/);
  });

  it("an error names the flag, the value and where it came from", () => {
    expect(() => read(["--count", "10"])).toThrow(
      new Failure('--count takes a whole number from 1 to 9, not "10"', ExitCode.USAGE),
    );
    expect(() => read([], { RINGWIRE_COUNT: "x" })).toThrow(/not "x" \(from RINGWIRE_COUNT\)$/);
  });
});

describe("ux-S18 variables of the environment", async () => {
  const program = await commandLine();
  const unknown = (env: NodeJS.ProcessEnv) => unknownVariables(program, env);

  it("one that nobody knows is told, with what was most likely meant", () => {
    expect(unknown({ RINGWIRE_LISTNE: "x" })).toEqual([
      "RINGWIRE_LISTNE in the environment is no variable of ringwire (Did you mean RINGWIRE_LISTEN?)",
    ]);
    expect(unknown({ RINGWIRE_WHENFULL: "hold" })[0]).toMatch(/RINGWIRE_WHEN_FULL\?/);
    expect(unknown({ RINGWIRE_CONFG: "hold" })[0]).toMatch(/RINGWIRE_CONFIG\?/);
    expect(unknown({ RINGWIRE_: "" })).toHaveLength(1);
    expect(unknown({ RINGWIRE_NOTHING_LIKE_IT_AT_ALL: "" })[0]).toMatch(/variable of ringwire$/);
  });

  it("flags of every command, and what others read, are known", () => {
    const names = ["CONNECT", "LISTEN", "NO_LLQ", "WHEN_FULL", "DEVICES", "LOG", "CONFIG", "SEED"];
    const mine = names.map((name) => [`RINGWIRE_${name}`, "x"]);
    expect(unknown(Object.fromEntries([...mine, ["RINGWIRE_TEST_FROM", "source"]]))).toEqual([]);
    expect(unknown({ ringwire_listne: "x", RINGWIRELISTNE: "x", PATH: "/" })).toEqual([]);
  });

  it("Kubernetes names a service there, and that is no slip", () => {
    const service = {
      RINGWIRE_SERVICE_HOST: "10.0.0.1",
      RINGWIRE_SERVICE_PORT: "7700",
      RINGWIRE_SERVICE_PORT_WS: "7700",
      RINGWIRE_PORT: "tcp://10.0.0.1:7700",
      RINGWIRE_PORT_7700_TCP: "tcp://10.0.0.1:7700",
      RINGWIRE_PORT_7700_TCP_ADDR: "10.0.0.1",
      RINGWIRE_DEVICE_SERVICE_HOST: "10.0.0.1",
    };
    expect(unknown(service)).toEqual([]);
    expect(unknown({ RINGWIRE_PORT: "7700" })).toHaveLength(1);
  });
});

describe("ux-S13 the file of --config", () => {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-options-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  const written = (text: string) => {
    const path = join(folder, "options.json");
    writeFileSync(path, text);
    return () => read(["--config", path]);
  };
  const configured = (file: object) => written(JSON.stringify(file));

  it("a name in another form, or a slip, is answered with the one that was meant", () => {
    expect(configured({ thing: { count: 7 } })()).toMatchObject({ count: 7 });
    expect(configured({ thing: { noLlq: true } })).toThrow(
      /sets "noLlq".*\(Did you mean no-llq\?\)/,
    );
    expect(configured({ thing: { no_llq: true } })).toThrow(/\(Did you mean no-llq\?\)/);
    expect(configured({ thing: { cuont: 1 } })).toThrow(/\(Did you mean count\?\)/);
    expect(configured({ thing: { colour: 1 } })).toThrow(/does not know$/);
    expect(configured({ thing: { config: "more.json" } })).toThrow(/does not know$/);
  });

  it("may begin with a byte order mark", () => {
    expect(written('\uFEFF{"thing": {"count": 7}}')()).toMatchObject({ count: 7 });
  });

  it("ux-S18 true stands for a flag whose value may be left out, in the environment as well", () => {
    expect(configured({ thing: { receive: true } })()).toMatchObject({ receive: true });
    expect(configured({ thing: { receive: 5 } })()).toMatchObject({ receive: "5" });
    expect(read([], { RINGWIRE_RECEIVE: "true" })).toMatchObject({ receive: true });
    expect(read(["--receive"])).toMatchObject({ receive: true });
  });
});

describe("the log", () => {
  const plain = { verbose: false, quiet: false };
  it("flags beat RINGWIRE_LOG", () => {
    expect(logOptions(plain, {})).toEqual({ level: "info", form: "text" });
    const env = { RINGWIRE_LOG: "error,json" };
    expect(logOptions(plain, env)).toEqual({ level: "error", form: "json" });
    expect(logOptions({ ...plain, verbose: true }, env).level).toBe("debug");
    expect(logOptions({ ...plain, quiet: true }, {}).level).toBe("warn");
    expect(logOptions({ ...plain, log: "text" }, env).form).toBe("text");
  });

  it("a record is one line of words; a stack only while debugging", () => {
    const record = {
      level: 40,
      time: 0,
      msg: "fault",
      code: "X",
      n: 3,
      err: { message: "why", stack: "Error: why\n    at there" },
    };
    expect(wordsOf(record, false).slice(8)).toBe(" warn  fault (code=X n=3) [why]");
    expect(wordsOf(record, true)).toContain("at there");
    // A peer's text stays within the line and can't add a line or a colour.
    const said = wordsOf({ level: 40, time: 0, msg: "a\n\u001b[2Jb", nic: "c\r\u009bd" }, false);
    expect(said.slice(8)).toBe(" warn  a\\x0a\\x1b[2Jb (nic=c\\x0d\\x9bd)");
  });
});

describe("values", () => {
  it.each([
    ["127.0.0.1:7700", { host: "127.0.0.1", port: 7700 }],
    ["[::1]:0", { host: "::1", port: 0 }],
    ["localhost:65535", { host: "localhost", port: 65535 }],
  ])("%s is a place to listen", (text, value) => {
    expect(hostPort.parse(text)).toEqual(value);
  });

  it.each(["", "7700", ":7700", "::1:7700", "h:65536", "h:", "h:7700/x", "http://h:1", "h h:1"])(
    "%j is no place to listen",
    (text) => expect(hostPort.safeParse(text).success).toBe(false),
  );

  it("names, addresses, numbers and words are bounded", () => {
    expect(nicName.safeParse("a".repeat(63)).success).toBe(true);
    for (const bad of ["", "a".repeat(64), "-a", "a b", "a/b", "é"]) {
      expect(nicName.safeParse(bad).success, bad).toBe(false);
    }
    expect(unicastMac.safeParse("02:00:00:00:00:01").success).toBe(true);
    expect(unicastMac.safeParse("ff:ff:ff:ff:ff:ff").success).toBe(false);
    expect(target.parse("h:7700")).toBe("h:7700");
    expect(target.safeParse("ftp://h").success).toBe(false);
    for (const bad of ["", "1.5", "-1", "0x1", "1e1", " 1", "10"]) {
      expect(whole(0, 9).safeParse(bad).success, bad).toBe(false);
    }
    expect(oneOf("a", "b").safeParse("c").success).toBe(false);
  });
});

describe("the Node that runs it", () => {
  it.each(["22.12.0", "22.20.1", "23.0.0", "24.1.0", "100.0.0-nightly"])(
    "%s will do",
    (version) => {
      expect(tooOld(version)).toBeUndefined();
    },
  );
  it.each(["22.11.9", "20.20.2", "8.0.0"])("%s is too old, and the sentence says so", (version) => {
    expect(tooOld(version)).toContain(`needs Node 22.12 or newer, and this is Node ${version}`);
  });
});

describe("text for people", () => {
  it("a table aligns words left and numbers right, without spaces at the end", () => {
    expect(
      table(
        ["name", "n"],
        [
          ["a", 5],
          ["long", 12],
        ],
      ).map(strip),
    ).toEqual(["name   n", "a      5", "long  12"]);
    expect(table(["name", "x"], [["a", "-"]]).map(strip)).toEqual(["name  x", "a     -"]);
    expect(table(["n"], [["-"], ["10 ms"]]).map(strip)).toEqual(["    n", "    -", "10 ms"]);
  });

  it("what is taller than the screen ends with how much there is more", () => {
    const lines = ["a", "b", "c", "d"];
    expect(topOf(lines, 5)).toEqual(lines);
    const cut = topOf(lines, 4);
    expect(cut).toEqual(["a", "b", expect.stringMatching(/^\.\.\. 2 more lines/)]);
    expect(topOf(lines, 0)).toEqual(["a", expect.stringMatching(/3 more/)]);
  });

  it("a table too wide for the terminal goes on below, under the same keys", () => {
    const heading = ["NIC", "queue", "head", "tail", "state"];
    const rows = [
      ["ena0", "tx", 1, 22, "idle"],
      ["x", "rx", 333, 4, "running"],
    ];
    const inside = (width: number) => table(heading, rows, { keys: 2, width }).map(strip);
    const whole = [
      "NIC   queue  head  tail  state",
      "ena0  tx        1    22  idle",
      "x     rx      333     4  running",
    ];
    expect(inside(32)).toEqual(whole);
    expect(inside(31)).toEqual([
      "NIC   queue  head  tail",
      "ena0  tx        1    22",
      "x     rx      333     4",
      "NIC   queue  state",
      "ena0  tx     idle",
      "x     rx     running",
    ]);
    // A line too narrow for the table still shows everything, one column at a time.
    expect(inside(5)).toHaveLength(9);
  });

  it("bytes and times have a unit that fits", () => {
    expect([bytesText(1023), bytesText(1536), bytesText(3 << 20)]).toEqual([
      "1023 B",
      "1.5 KiB",
      "3.0 MiB",
    ]);
    expect([msText(0.315), msText(41.7)]).toEqual(["0.32 ms", "42 ms"]);
  });

  it("drops at a port are summed by reason, wherever they were counted", () => {
    const port = {
      in: { dropped: { runt: 1 } },
      out: { dropped: { rx_overrun: 2, runt: 3 } },
      lost: { in: { tx_fault: 4 }, out: { rx_overrun: 5 } },
    };
    expect(dropsOf(merged(pageOf().segments[0]!.ports[0], port) as PortStatus)).toEqual({
      runt: 4,
      rx_overrun: 7,
      tx_fault: 4,
    });
  });

  it("ux-C1 a status has no heading without rows, however narrow the terminal", () => {
    expect(table(["a", "b"], [], { width: 3 })).toEqual([]);
    const status = { ...pageOf(), nics: pageOf().nics.slice(0, 1), addresses: {} };
    expect(statusLines(status).join("\n")).not.toContain("Xen");
    const segments = status.segments.map(({ services: _, ...segment }) => segment);
    expect(statusLines({ ...status, segments }).join("\n")).not.toContain("Services");
  });

  it("a status lists the services of the segment, their leases, and how many more there are", () => {
    const lease = { address: "10.0.0.7", nic: "", state: "bound", seconds: 90 } as const;
    const services = {
      answers: { dhcp: 2000 },
      unanswered: { port_rate: 7 },
      dhcp: { leases: 300, offers: 1, list: [lease] },
    };
    const status = statusWith({ segments: [{ services }] });
    const text = statusLines({ ...status, addresses: {} })
      .map(strip)
      .join("\n");
    expect(text).toMatch(/^Services\naddress +answers +no answer\n10\.0\.0\.1\/24 +dhcp 2,?0/m);
    expect(text).toContain("port_rate 7");
    expect(text).toContain("300 leases, 127 addresses in the pool, 0 reserved");
    expect(text).toMatch(/^ *10\.0\.0\.7 +- +0e:d5:0c:48:84:e6 +bound +90 s$/m);
    expect(text).toContain("... and 300 more");
  });

  it("ux-C1 NICs stand in the order of their names, and the reset that attaches one does not count", () => {
    const nic = (name: string, resets: number) => {
      const changes = { name, nic: { tx: [], rx: [], counters: { resets } } };
      return merged(pageOf().nics[0], changes) as NicStatus;
    };
    const nics = [nic("ena10", 1), nic("ena2", 3), nic("ena1", 0)];
    const ports = nics.map(({ name }) => ({ name, kind: "ena" }));
    const status = statusWith({ segments: [{ ports, left: [] }], left: { nics: [] } });
    const lines = statusLines({ ...status, nics, addresses: {} }).map(strip);
    const rows = lines.filter((line) => line.startsWith("ena"));
    expect(rows.map((row) => row.split(" ")[0])).toEqual([
      ...["ena1", "ena2", "ena10"],
      ...["ena1", "ena2", "ena10"],
    ]);
    expect(rows.slice(0, 3).map((row) => row.split(" ").at(-1))).toEqual(["0", "2", "0"]);
  });
});

/** Removes escape sequences, in case the run has a terminal. */
function strip(line: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
  return line.replaceAll(/\u001b\[\d+m/g, "");
}

it("amounts may be large, and written short", () => {
  const read = (text: string): unknown => amount.safeParse(text).data;
  const good = { 0: 0, 7: 7, 999999999: 999_999_999, 1000000000000: 1e12 };
  for (const [text, n] of Object.entries(good)) expect(read(text)).toBe(n);
  expect(["1e6", "1M", "1m", "1000k", "0.001G", "1.5k"].map(read)).toEqual([
    1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1500,
  ]);
  expect(read("9007199254740991")).toBe(Number.MAX_SAFE_INTEGER);
  const bad = [
    "",
    "-1",
    "1.5",
    "1e",
    "e6",
    "1e17",
    "9007199254740992",
    "1e-3",
    "0x10",
    "1 M",
    "1MM",
  ];
  expect(bad.map(read)).toEqual(bad.map(() => undefined));
});

describe("the file of --config in TOML", () => {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-toml-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  let files = 0;

  const configured = async (text: string, name = `options${files++}.toml`) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    await prepareConfig(path);
    return read(["--config", path]);
  };

  it("has the same keys as in JSON, whatever the name of the file", async () => {
    const text = '[thing]\ncount = 7\nno-llq = true\nlist = ["a", "b"]\n';
    const expected = { count: 7, llq: false, list: ["a", "b"] };
    expect(await configured(text)).toMatchObject(expected);
    expect(await configured(text, "options")).toMatchObject(expected);
    expect(await configured('\uFEFF{ "thing": { "count": 7 } }', "o")).toMatchObject({ count: 7 });
  });

  it("ignores the parts of a lab", async () => {
    const lab = 'name = "x"\n[thing]\ncount = 3\n[[nic]]\nname = "a"\n[[capture]]\nwrite = "x"\n';
    expect(await configured(lab)).toMatchObject({ count: 3 });
  });

  it("names the line of a mistake", async () => {
    await expect(configured("[thing]\n\ncuont = 1\n")).rejects.toThrow(
      /options\d+\.toml:3 sets "cuont", which thing does not know \(Did you mean count\?\)$/,
    );
    await expect(configured("[thing\n")).rejects.toThrow(/options\d+\.toml:2 can't be used/);
    await expect(configured("[thing]\ncount = { a = 1 }\n")).rejects.toThrow(
      /look at thing\.count/,
    );
  });
});

it("only addresses of this machine alone need no lock and no --insecure", () => {
  const own = ["127.0.0.1", "127.0.0.0", "127.255.255.255", "::1"];
  const others = [
    ...["0.0.0.0", "126.255.255.255", "128.0.0.1", "10.0.0.1", "192.168.0.1"],
    ...["::", "::2", "fe80::1", "fd00::1", "::ffff:10.0.0.1"],
  ];
  expect([...own, ...others].filter(isLoopback)).toEqual(own);
});
