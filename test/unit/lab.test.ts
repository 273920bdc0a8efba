/** Lab files: their mistakes with line and accepted values, classes of NICs, what belongs to a host. */
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it, onTestFinished, vi } from "vitest";
import * as z from "zod";
import { TomlError, TomlFile } from "../../cli/config/toml.ts";
import { parseLab } from "../../cli/lab/lab.ts";
import { sightsOf } from "../../cli/lab/peers.ts";
import { partsOf, planOf } from "../../cli/lab/plan.ts";
import { runs } from "../../cli/lab/processes.ts";
import { LabState } from "../../cli/lab/state.ts";
import { ROOT } from "../support/process.ts";

/** The mistakes of a file as a user sees them. */
const mistakes = (text: string): string[] =>
  parseLab(text, "/labs/lab.toml").errors.map(
    ({ line, place, message }) => `${line}: ${place}${place && " "}${message}`,
  );
const labOf = (text: string) => {
  const { lab, errors } = parseLab(text, "/labs/lab.toml");
  expect(errors).toEqual([]);
  return lab;
};

describe("mistakes in a lab file", () => {
  it.each([
    ["no TOML", "[device\n", /^2: .*: this is no TOML$/],
    ["a key that is there twice", "name = 'a'\nname = 'b'\n", /^2: .*multiple times.*no TOML$/],
    ["a strange key at the top", "nam = 'x'", "1: nam is unknown (Did you mean name?)"],
    [
      "a strange section",
      "[frontent]\nqueues = 1",
      "1: frontent is unknown (Did you mean frontend?)",
    ],
    [
      "a strange flag",
      "[device]\n\nlisen = 'x'",
      "3: device.lisen is unknown (Did you mean listen?)",
    ],
    [
      "a word of the library",
      "[device]\n[[segment]]\nwhenFull = 'hold'",
      "3: segment[0].whenFull is unknown (Did you mean when-full?)",
    ],
    [
      "a driver that does not exist",
      "[[nic]]\nname = 'a'\n[[nic]]\nname = 'b'\ndriver = 'e1000'",
      '5: nic[1].driver takes ena or xen, not "e1000"',
    ],
    ["a number out of range", "[device]\nqueues = 99", /^2: device.queues .* 1 to 32, not "99"$/],
    ["a flag that is no text", "[device]\nlisten = ['x']", /^2: device.listen takes HOST:PORT/],
    [
      "a switch that is a text",
      "[device]\ninsecure = 'yes'",
      /^2: .* takes true or false, not "yes"$/,
    ],
    ["a list that is a text", "[device]\nuplink = 'tap:x'", /^2: .*takes a list, not "tap:x"$/],
    [
      "an uplink",
      "[device]\nuplink = ['veth:x']",
      /^2: device.uplink.* takes tap:NAME, not "veth:x"$/,
    ],
    [
      "a VLAN",
      "[device]\n[[segment]]\n[[segment.port]]\nname = 'a'\naccess = 5000",
      /^5: segment\[0\].port\[0\].access takes at most 4094, not 5000$/,
    ],
    [
      "a port that is both",
      "[device]\n[[segment]]\n[[segment.port]]\nname = 'a'\naccess = 5\ntrunk = 'all'",
      /^3: segment\[0\].port\[0\] has access and trunk/,
    ],
    ["a NIC without a name", "[[nic]]\ndriver = 'ena'", "1: nic[0].name is needed"],
    ["one NIC in single brackets", "[nic]\nname = 'a'", "1: nic takes a list of tables: [[nic]]"],
    [
      "an address without a prefix",
      "[[nic]]\nname='a'\ntap='t'\naddresses = [\n'10.0.0.1/24',\n'10.0.0.2']",
      /^6: nic\[0\].addresses\[1\] takes an IP address.*10.0.0.2"$/,
    ],
    [
      "a route",
      "[[nic]]\nname='a'\ntap='t'\nroutes = ['10.0.0.1']",
      /^4: nic\[0\].routes\[0\] takes NETWORK via ADDRESS/,
    ],
    ["an interface name", "[[nic]]\nname='a'\ntap='a b'", /^3: nic\[0\].tap takes 1 to 15 letters/],
    [
      "a secret",
      "[[nic]]\nname='a'\ntoken='rw_a_secret'",
      "3: nic[0].token takes @FILE: a secret does not belong in this file",
    ],
    ["a reserved name", "[[nic]]\nname='any'", /^2: nic\[0\].name takes no reserved name/],
    [
      "a group address",
      "[[nic]]\nname='a'\nmac='01:00:5e:00:00:01'",
      /^3: nic\[0\].mac takes a unicast MAC/,
    ],
    [
      "addresses without a TAP",
      "[[nic]]\nname='a'\naddresses=['10.0.0.1/24']",
      "3: nic[0].addresses needs tap: the interface that it is for",
    ],
    [
      "untrusted with ENA",
      "[[nic]]\nname='a'\nuntrusted=true",
      '3: nic[0].untrusted goes with driver = "xen"',
    ],
    [
      "two NICs of one name",
      "[[nic]]\nname='a'\n[[nic]]\nname='a'",
      /^4: nic\[1\].name a on lan0 is there twice/,
    ],
    [
      "two TAPs of one name",
      "[[nic]]\nname='a'\ntap='t'\n[[nic]]\nname='b'\ntap='t'",
      /^6: nic\[1\].tap t is there twice/,
    ],
    [
      "one MAC twice",
      "[[nic]]\nname='a'\nmac='02:00:00:00:00:0a'\n[[nic]]\nname='b'\nmac='02:00:00:00:00:0A'",
      /^6: nic\[1\].mac .*is there twice/,
    ],
    [
      "one address twice",
      "[[nic]]\nname='a'\ntap='t'\naddresses=['fd00::1/64']\n[[nic]]\nname='b'\ntap='u'\naddresses=['fd00:0::1/64']",
      /^8: nic\[1\].addresses has fd00::1 on lan0, which another NIC or the services/,
    ],
    [
      "two segments of one name",
      "[device]\n[[segment]]\nname='x'\n[[segment]]\nname='x'",
      /^5: segment\[1\].name is there twice/,
    ],
    [
      "a segment that does not exist",
      "[device]\n[[segment]]\nname='red'\n[[nic]]\nname='a'\nsegment='rad'",
      /^6: nic\[0\].segment names "rad", and there is no such segment \(Did you mean red\?\)$/,
    ],
    [
      "a host that does not exist",
      "[[host]]\nname='a'\n[[nic]]\nname='x'\nhost='z'",
      '5: nic[0].host names "z", and there is no such host; there is a',
    ],
    [
      "a host in a lab without hosts",
      "[device]\nhost='a'",
      /^2: device.host names "a", and the file has no \[\[host\]\]$/,
    ],
    [
      "a part without its host",
      "[[host]]\nname='a'\n[[host]]\nname='b'\n[[nic]]\nname='x'",
      "5: nic[0].host is needed: a or b",
    ],
    [
      "no way to the device",
      "[device]\nhost='a'\n[[host]]\nname='a'\n[[host]]\nname='b'\n[[nic]]\nname='x'\nhost='b'",
      /^7: nic\[0\] is on host b, which does not say how/,
    ],
    [
      "segments without a device",
      "[[segment]]\nname='x'",
      "1: segment needs [device]: it is the device that has segments",
    ],
    [
      "segments and flags of one",
      "[device]\nuplink=['tap:x']\n[[segment]]\nname='x'",
      /^2: device.uplink describes segments, and so does/,
    ],
    [
      "any free port",
      "[device]\nlisten='127.0.0.1:0'",
      /^2: device.listen takes a port of its own/,
    ],
    [
      "an open port",
      "[device]\nlisten='0.0.0.0:7700'",
      /^2: device.listen .* add tokens or ca, or insecure = true/,
    ],
    ["half a certificate", "[device]\ncert='/etc/hostname'", /^1: device --cert needs --key/],
    [
      "a file that is missing",
      "[device]\ntokens='nowhere.json'",
      "2: device.tokens names /labs/nowhere.json: there is no such file",
    ],
    [
      "a token file that is missing",
      "[[nic]]\nname='a'\ntoken='@a.token'",
      "3: nic[0].token names /labs/a.token: there is no such file",
    ],
    ["a class of one name", "[[nic]]\ncount=2\nname='pc'", /^3: nic\[0\].name needs \{n\}/],
    [
      "numbers without a class",
      "[[nic]]\nname='pc{n}'",
      "2: nic[0].name has {n}, and the entry has no count",
    ],
    [
      "a class that is too large",
      "[[nic]]\ncount=5000\nname='pc{n}'",
      "2: nic[0].count takes at most 1024, not 5000",
    ],
    [
      "addresses behind the last",
      "[[nic]]\ncount=3\nname='pc{n}'\ntap='t{n}'\naddresses=['10.0.0.{n+253}/24']",
      /^5: nic\[0\].addresses\[0\] takes .*"10.0.0.256\/24"$/,
    ],
    [
      "two captures of one file",
      "[[capture]]\nwrite='a.pcapng'\n[[capture]]\nwrite='./a.pcapng'",
      "4: capture[1].write is the file of another capture",
    ],
    ["a capture without a file", "[[capture]]\nring = true", "1: capture[0].write is needed"],
  ])("%s", (_what, text, expected) => {
    const [first = ""] = mistakes(text);
    if (typeof expected === "string") expect(first).toBe(expected);
    else expect(first).toMatch(expected);
  });

  it.each([
    [
      "an address",
      "address = '10.0.0.1'",
      /services.address takes an IPv4 address with its prefix/,
    ],
    [
      "a strange key",
      "address = '10.0.0.1/24'\ndhcpd = true",
      /services.dhcpd is unknown .*dhcp\?/,
    ],
    [
      "a strange key inside",
      "address = '10.0.0.1/24'\ndhcp = { form = '10.0.0.9' }",
      /services.dhcp.form is unknown .*from\?/,
    ],
    [
      "a name that is no word of the command line",
      "address = '10.0.0.1/24'\n[segment.services.dhcp.reserve]\nmy-Host = '10.0.9.1'",
      /^6: segment\[0\].services.dhcp.reserve.my-Host takes an address of a host in 10.0.0.0\/24/,
    ],
  ])("in services: %s", (_what, text, expected) => {
    const [first = ""] = mistakes(`[device]\n[[segment]]\n[segment.services]\n${text}`);
    expect(first).toMatch(expected);
  });

  it("are reported all at once, in the order of their lines", () => {
    const text = `nam = "x"
[device]
listen = "0.0.0.0:7700"
[frontend]
queues = true
[[nic]]
name = "a"
driver = "e1000"
[[nic]]
name = "b"
tap = 3.5
mac = "02"
[[nic]]
name = "b"
`;
    expect(mistakes(text).map((line) => line.split(" ")[0])).toEqual([
      ...["1:", "3:", "5:", "8:", "11:", "12:"],
    ]);
  });

  it("a mistake in the defaults is there once, not for each NIC", () => {
    const text = "[frontend]\ndriver = 'e1'\n[[nic]]\nname='a'\n[[nic]]\nname='b'";
    expect(mistakes(text)).toEqual(['2: frontend.driver takes ena or xen, not "e1"']);
  });

  it("any text is TOML or a TomlError", () => {
    const words = fc.constantFrom(
      "[",
      "]",
      "[[",
      "]]",
      "=",
      '"',
      "'",
      "\n",
      "a",
      "__proto__",
      ".",
      "{",
      "}",
      ",",
      "1",
      "#",
      "nic",
      "\u0000",
    );
    fc.assert(
      fc.property(fc.array(words, { maxLength: 40 }), (parts) => {
        try {
          parseLab(new TomlFile(parts.join("")) && parts.join(""), "/labs/x.toml");
        } catch (error) {
          expect(error).toBeInstanceOf(TomlError);
        }
      }),
    );
    expect(() => new TomlFile(`a = ${"[".repeat(100_000)}${"]".repeat(100_000)}`)).toThrow(
      TomlError,
    );
    for (const deep of [`a = ${"[".repeat(99)}${"]".repeat(99)}`, `${"a.".repeat(99)}a = 1`]) {
      expect(() => new TomlFile(`\n${deep}`)).toThrow(/more than 32 levels/);
    }
    expect(() => new TomlFile(`[${"a.".repeat(99)}a]`)).toThrow(/more than 32 levels/);
    expect(mistakes("__proto__ = { x = 1 }\nconstructor = 1")).toEqual([
      "1: __proto__ is unknown",
      "2: constructor is unknown",
    ]);
    expect(Object.prototype).not.toHaveProperty("x");
  });
});

describe("a class of NICs", () => {
  it("numbers its texts", () => {
    const { nics } = labOf(`[device]
[[nic]]
count = 12
name = "pc{nn}"
netns = "pc{n}"
tap = "eth0"
mac = "02:00:00:00:00:{nn}"
addresses = ["10.0.0.{n+100}/24"]
routes = ["default via 10.0.0.{n}"]
`);
    expect(nics).toHaveLength(12);
    expect([nics[0], nics[11]]).toMatchObject([
      { name: "pc01", netns: "pc1", mac: "02:00:00:00:00:01", addresses: [{ ip: "10.0.0.101" }] },
      { name: "pc12", netns: "pc12", addresses: [{ ip: "10.0.0.112", prefix: 24 }] },
    ]);
    expect(nics[11]?.routes).toEqual([{ to: "default", via: "10.0.0.12" }]);
  });
});

describe("what belongs to a host", () => {
  const text = `[device]
host = "a"
listen = "0.0.0.0:7701"
insecure = true
[[host]]
name = "a"
[[host]]
name = "b"
connect = "192.0.2.1:7701"
[frontend]
queues = 2
no-lro = true
verbose = false
[[nic]]
name = "x"
host = "a"
[[nic]]
name = "y"
host = "b"
queues = 4
[[capture]]
host = "b"
write = "y.pcapng"
interface = ["y"]
`;

  it("is a command line for each part", () => {
    const lab = labOf(text);
    const argv = (host: string) => partsOf(planOf(lab, host)).map((part) => part.argv.join(" "));
    expect(argv("a")).toEqual([
      "device --json --config=/labs/lab.toml",
      "frontend --json --wait --queues=2 --no-lro --name=x --connect=ws://127.0.0.1:7701",
    ]);
    expect(argv("b")).toEqual([
      "frontend --json --wait --queues=4 --no-lro --name=y --connect=192.0.2.1:7701",
      "capture --json --wait --write=y.pcapng --interface=y --connect=192.0.2.1:7701",
    ]);
  });

  it("connects by TLS where the device has a certificate, also at the default address", () => {
    const { lab } = parseLab('[device]\ncert="c"\nkey="k"\n[[nic]]\nname="a"\n', "/labs/x.toml");
    expect(partsOf(planOf(lab, undefined))[1]?.argv).toContain("--connect=wss://127.0.0.1:7700");
  });

  it("names the segment of each NIC where there are several", () => {
    const lab = labOf(`[device]
[[segment]]
name = "red"
[segment.services]
address = "10.0.0.1/24"
dhcp = { reserve = { my-Host = "10.0.0.9" } }
[[segment]]
name = "blue"
[[nic]]
name = "web"
[[nic]]
name = "web"
segment = "blue"
`);
    expect(lab.segments.map(({ own }) => own.length)).toEqual([1, 0]);
    expect(partsOf(planOf(lab, undefined)).map(({ id }) => id)).toEqual([
      ...["device", "nic red/web", "nic blue/web"],
    ]);
    const [, red, blue] = partsOf(planOf(lab, undefined)).map(({ argv }) => argv.join(" "));
    expect(red).toContain("--segment=red");
    expect(blue).toContain("--segment=blue");
  });

  it("has another key when its part of the file has changed", () => {
    const keys = (file: string) =>
      Object.fromEntries(
        ["a", "b"].flatMap((host) =>
          partsOf(planOf(labOf(file), host)).map(({ id, key }) => [id, key]),
        ),
      );
    const before = keys(text);
    const changed = (from: string, to: string) => {
      const after = keys(text.replace(from, to));
      return Object.keys(before).filter((id) => before[id] !== after[id]);
    };
    expect(changed("queues = 4", "queues = 5")).toEqual(["nic y"]);
    expect(changed("queues = 2", "queues = 3")).toEqual(["nic x"]);
    expect(changed("insecure = true", "insecure = true\nqueues = 4")).toEqual(["device"]);
    expect(changed("[device]", "# nothing\n[device]")).toEqual([]);
  });
});

describe("peers", () => {
  const seen = (rules: string, more = "") => {
    const lab = labOf(`[device]
[[segment]]
name = "lan0"
${rules}
[[nic]]
count = 3
name = "pc{n}"
netns = "pc{n}"
tap = "eth0"
addresses = ["10.0.0.{n}/24", "fd00::{n}/64"]
${more}`);
    const { nics } = lab;
    return sightsOf(lab, nics, nics).map(({ nic, peers }) =>
      [nic.name, ...peers.map(({ name, ip }) => `${name}=${ip}`)].join(" "),
    );
  };

  it("are the NICs behind an address of the own network", () => {
    expect(
      seen("", "[[nic]]\nname='far'\nnetns='far'\ntap='t'\naddresses=['10.9.0.1/24']"),
    ).toEqual([
      "pc1 pc2=10.0.0.2 pc3=10.0.0.3",
      "pc2 pc3=10.0.0.3 pc1=10.0.0.1",
      "pc3 pc1=10.0.0.1 pc2=10.0.0.2",
      "far",
    ]);
  });

  it("are not those that rules of the segment keep apart", () => {
    const rule = (text: string) => `[[segment.port]]\n${text}\n`;
    const isolated = rule("name='*'\nisolated=true") + rule("name='pc1'\nisolated=false");
    expect(seen(isolated)).toEqual([
      "pc1 pc2=10.0.0.2 pc3=10.0.0.3",
      "pc2 pc1=10.0.0.1",
      "pc3 pc1=10.0.0.1",
    ]);
    const vlans = rule("name='pc*'\naccess=10") + rule("name='pc3'\naccess=20");
    expect(seen(vlans)).toEqual(["pc1 pc2=10.0.0.2", "pc2 pc1=10.0.0.1", "pc3"]);
  });

  it("are few for each NIC of a large lab, because the kernel keeps few neighbours", () => {
    const lab = labOf(
      "[device]\n[[nic]]\ncount=200\nname='p{n}'\nnetns='p{n}'\ntap='t'\naddresses=['10.0.0.{n}/24']",
    );
    const sights = sightsOf(lab, lab.nics, lab.nics);
    expect(sights.map(({ peers }) => peers.length)).toEqual(new Array(200).fill(2));
  });
});

describe("the JSON Schema for editors", () => {
  const schema = JSON.parse(readFileSync(join(ROOT, "schema/lab.schema.json"), "utf8"));
  const accepts = z.fromJSONSchema(schema);
  const value = (text: string) => JSON.parse(JSON.stringify(new TomlFile(text).value));
  const folder = join(ROOT, "examples");
  const examples = readdirSync(folder).filter((name) => name.endsWith(".toml"));

  it.each(examples)("accepts examples/%s", (name) => {
    const text = readFileSync(join(folder, name), "utf8");
    expect(text).toMatch(/^#:schema \.\.\/schema\/lab\.schema\.json\n/);
    expect(accepts.safeParse(value(text)).error).toBeUndefined();
  });

  it("refuses strange keys and values, and describes every key", () => {
    for (const text of ["nam=1", "[device]\nqueues=0", "[[nic]]\nname='a'\ndriver='e'"]) {
      expect(accepts.safeParse(value(text)).success).toBe(false);
    }
    const { device, nic, segment, capture } = schema.properties;
    for (const { properties } of [device, nic.items, segment.items, capture.items]) {
      const bare = Object.entries(properties as Record<string, { description?: string }>).filter(
        ([, { description }]) => description === undefined,
      );
      expect(bare.map(([key]) => key)).toEqual([]);
    }
  });
});

describe.skipIf(process.geteuid?.() !== 0)("the folder of a lab of a user", () => {
  const USER = 4711;
  /** A state below the folder of a user who is not root, and the path that it will have. */
  function stateOfUser() {
    const runtime = mkdtempSync(join(tmpdir(), "ringwire-runtime-"));
    vi.spyOn(process, "geteuid").mockReturnValue(USER);
    vi.stubEnv("XDG_RUNTIME_DIR", runtime);
    onTestFinished(() => {
      vi.restoreAllMocks();
      vi.unstubAllEnvs();
      rmSync(runtime, { recursive: true });
    });
    const all = join(runtime, "ringwire");
    return { state: new LabState("one", "/"), all, folder: join(all, "one") };
  }
  const make = (path: string, owner: number): void => {
    mkdirSync(path);
    chownSync(path, owner, owner);
  };

  it("is used when it is that user's, and by one command at a time", () => {
    const { state, all, folder } = stateOfUser();
    for (const path of [all, folder]) make(path, USER);
    state.lock();
    expect(() => new LabState("one", "/").lock()).toThrow("another ringwire lab is at work");
    state.namespaces = ["a", "b"];
    expect(new LabState("one", "/").namespaces).toEqual(["a", "b"]);
    state.remove();
    expect(existsSync(folder)).toBe(false);
  });

  it.each<[string, (all: string, folder: string) => void]>([
    [
      "of another user",
      (all, folder) => {
        make(all, USER);
        make(folder, USER + 1);
      },
    ],
    [
      "below a folder of another user",
      (all, folder) => {
        make(all, USER + 1);
        make(folder, USER);
      },
    ],
    [
      "behind a link",
      (all, folder) => {
        for (const path of [all, `${folder}-there`]) make(path, USER);
        symlinkSync(`${folder}-there`, folder);
      },
    ],
  ])("is not used: one %s", (_what, prepare) => {
    const { state, all, folder } = stateOfUser();
    prepare(all, folder);
    expect(() => state.lock()).toThrow(/is no folder of this user: remove it/);
    expect(existsSync(join(folder, "lock"))).toBe(false);
  });
});

it("a process is told from a later one with its pid", () => {
  const mark = { lab: "one", part: "device", key: "", file: "/x" };
  const start = readFileSync("/proc/self/stat", "utf8").split(") ").at(-1)!.split(" ")[19]!;
  expect(runs({ ...mark, pid: process.pid, start })).toBe(true);
  expect(runs({ ...mark, pid: process.pid, start: `${start}0` })).toBe(false);
});

describe("names", () => {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-lab-name-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  it("a lab without a name has that of its file", () => {
    writeFileSync(join(folder, "x"), "");
    const name = (path: string) => parseLab("", path).lab.name;
    expect(name("/labs/my lab.toml")).toBe("my-lab");
    expect(name("/labs/..toml")).toBe("lab");
    expect(parseLab('name = "x.y"', "/labs/z.toml").lab.name).toBe("x.y");
    expect(parseLab('name = "../x"', "/labs/z.toml").errors).toHaveLength(1);
  });
});
