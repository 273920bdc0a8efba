/** The page `/status`: its keys are a promise to programs, and a peer's text in it is checked. */
import { describe, expect, it } from "vitest";
import { commonServices } from "../../device/services/options.ts";
import { openNic } from "../../frontend/index.ts";
import { deviceStatus } from "../../shared/status/device-status.ts";
import { readAddresses, readStatus } from "../../shared/status/read.ts";
import { testDevice } from "../support/device-server.ts";
import { eventually } from "../support/process.ts";
import { datagram, dhcpMessage } from "../support/service-stage.ts";
import { merged, pageOf } from "../support/status.ts";

/** Names of all values: `[]` for the entries of a list, `*` for names that are not fixed. */
function placesIn(value: unknown, at = ""): string[] {
  if (typeof value !== "object" || value === null) return [at];
  if (Array.isArray(value)) return value.flatMap((entry) => placesIn(entry, `${at}[]`));
  const free = /\.(dropped|faults|reports|resets|refused|turns|lost\.\w+)$/.test(at);
  return Object.entries(value).flatMap(([key, part]) =>
    free ? [] : placesIn(part, `${at}.${key}`),
  );
}

describe("status of a device", () => {
  it("is described whole: nothing in a real device's page is unknown to the schema", () => {
    expect(JSON.stringify(deviceStatus.parse(pageOf()))).toBe(JSON.stringify(pageOf()));
  });

  it("has the keys of the page that programs know", async () => {
    const segments = { services: commonServices("10.0.0.1/24") };
    await using device = await testDevice({ checkWindows: true, segments });
    const connect = device.url;
    await using ena = await openNic({ connect, driver: "ena" });
    await using _xen = await openNic({ connect, driver: "xen" });
    const all = { mac: new Array<number>(6).fill(255), ip: [255, 255, 255, 255], port: 67 };
    const mac = [...ena.ifnet.mac];
    await ena.send(datagram({ mac, ip: [0, 0, 0, 0] }, all, dhcpMessage(mac, 1)));
    const offers = () => device.status().segments[0]?.services?.dhcp?.offers;
    await eventually("an offer of DHCP", () => offers() === 1 || undefined);
    const page: unknown = JSON.parse(JSON.stringify(device.status()));
    expect(readStatus(page)).toBe(page);
    const absent = /\.(left|credit|rate|control)\b/;
    const known = (value: unknown) =>
      [...new Set(placesIn(value))].filter((place) => !absent.test(place)).sort();
    expect(known(page)).toEqual(known(pageOf()));
  });

  it("keeps what a later version adds", () => {
    const page = merged(pageOf(), {
      segments: [{ vlans: 3 }],
      nics: [{}, { nic: { later: [1] } }],
    });
    expect(readStatus(page)).toBe(page);
  });
});

describe("a page that is none", () => {
  it.each([
    [{ nics: [{}, { link: { roundTripMs: "1" } }] }, "nics[1].link.roundTripMs: expected number"],
    [{ nics: [{ nic: { personality: "e1000" } }] }, "nics[0].nic.personality: "],
    [{ nics: [{ nic: { tx: [{ placement: "\x1b" }] } }] }, "nics[0].nic.tx[0].placement: "],
    [
      { segments: [{ ports: [{ in: { dropped: { a: "b" } } }] }] },
      "segments[0].ports[0].in.dropped: ",
    ],
    [{ segments: null }, "segments: expected array, received null"],
    [{ nics: 7 }, "nics: expected array, received number"],
  ])("%j: names what is wrong, and where", (changes, says) => {
    const page = merged(pageOf(), changes);
    expect(() => readStatus(page)).toThrow(says);
  });

  it.each([null, 7, "x", [], {}])("%j", (page) => {
    expect(() => readStatus(page)).toThrow(/^(the page|agent): /);
    expect(() => readAddresses(page)).toThrow(/^(the page|total): /);
  });

  it("a million wrong entries are one complaint, and a long name is cut", () => {
    const page = merged(pageOf(), { nics: [{}, {}] }) as { nics: unknown };
    page.nics = new Array(1e6).fill({});
    expect(() => readStatus(page)).toThrow("nics[0].name: expected string, received undefined");
    const addresses = new Array(1e6).fill(7);
    expect(() => readAddresses({ total: 1, addresses })).toThrow(/^addresses\[0\]: .{1,80}$/);
  });
});
