/** The units of deploy/systemd: checked by systemd's own tools, and run by a real systemd. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LabFiles } from "../support/lab-files.ts";
import { eventually, ROOT } from "../support/process.ts";
import { placeUnits, Systemd, whyNoSystemd } from "../support/systemd.ts";

const ANALYZE = "/usr/bin/systemd-analyze";
const DEVICE = "ringwire-device.service";
const FRONTEND = "ringwire-frontend@.service";
/** Most exposure (of 100) that `systemd-analyze security` may find, without and with tap.conf. */
const EXPOSURE = { plain: 15, tap: 22 };

describe.skipIf(!existsSync(ANALYZE))("systemd-analyze", () => {
  const folder = mkdtempSync(join(tmpdir(), "ringwire-units-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  /** Units in a folder of their own, with drop-ins. Returns the path of one unit. */
  function placed(unit: string, ...dropIns: string[]): string {
    const own = mkdtempSync(join(folder, "units-"));
    const program = join(ROOT, "dist/cli/ringwire.js");
    const paths = placeUnits(own, program);
    mkdirSync(join(own, `${unit}.d`));
    for (const name of dropIns) {
      const from = paths.find((path) => path.endsWith(`/${name}`))!;
      spawnSync("cp", [from, join(own, `${unit}.d`, name)]);
    }
    return join(own, unit);
  }

  const units = [
    [DEVICE, []],
    [DEVICE, ["tap.conf"]],
    [DEVICE, ["locked.conf"]],
    [FRONTEND, []],
    [FRONTEND, ["tap.conf"]],
  ] as const;

  it.each(units)("verify finds nothing in %s with %j", (unit, dropIns) => {
    const asked = spawnSync(ANALYZE, ["verify", "--man=no", placed(unit, ...dropIns)]);
    expect([asked.status, String(asked.stderr)]).toEqual([0, ""]);
  });

  it.each(units)("security finds little exposure in %s with %j", (unit, dropIns) => {
    const most = dropIns.some((name) => name === "tap.conf") ? EXPOSURE.tap : EXPOSURE.plain;
    const args = ["security", "--offline=yes", `--threshold=${most}`, placed(unit, ...dropIns)];
    const { status, stdout } = spawnSync(ANALYZE, args, { encoding: "utf8" });
    expect(status, stdout).toBe(0);
  });
});

const why = whyNoSystemd();

describe.skipIf(why !== undefined)(`a systemd runs the units${why ? `: ${why}` : ""}`, () => {
  const files = new LabFiles();
  let systemd: Systemd;
  let admin: string;

  beforeAll(async () => {
    await files.deviceCertificates();
    admin = await files.token("operator", "--role", "admin");
    const units = files.path("units");
    mkdirSync(units);
    const program = "/run/tree/node_modules/node/bin/node /run/tree/dist/cli/ringwire.js";
    placeUnits(units, program, (text) => text.replaceAll("/etc/ringwire", "/run/lab"));
    // The files of the machine are read-only here, and its boot is none of the test's business.
    const test = `[Unit]
DefaultDependencies=no
[Service]
StandardOutput=append:/run/services.log
StandardError=append:/run/services.log
`;
    for (const unit of [DEVICE, FRONTEND]) {
      mkdirSync(join(units, `${unit}.d`));
      writeFileSync(join(units, `${unit}.d/test.conf`), test);
    }
    writeFileSync(join(units, "basic.target"), "[Unit]\nDefaultDependencies=no\n");
    systemd = await Systemd.boot(files.folder);
  });

  afterAll(async () => {
    await systemd?.[Symbol.asyncDispose]();
    files[Symbol.dispose]();
  });

  const ask = (path: string) =>
    systemd.inside(
      "/run/tree/node_modules/node/bin/node",
      "-e",
      `fetch("http://127.0.0.1:7700${path}").then(async (a) => console.log(await a.text()))`,
    ).text;

  /** A drop-in of deploy/, or a text, from the next start on. */
  function dropIn(unit: string, name: string, text?: string): void {
    const folder = `/run/systemd/system/${unit}.d`;
    const way =
      text === undefined ? `cp /run/systemd/system/${name} .` : `printf '%s' '${text}' > ${name}`;
    const { code, text: said } = systemd.inside(
      "sh",
      "-c",
      `mkdir -p ${folder} && cd ${folder} && ${way}`,
    );
    expect(code, said).toBe(0);
    systemd.systemctl("daemon-reload");
  }

  it("a device and a NIC are started when they are ready, without any privilege", () => {
    // A start returns when the unit has said READY=1.
    systemd.systemctl("start", DEVICE);
    expect(JSON.parse(ask("/readyz"))).toEqual({ ok: true, reasons: [] });
    systemd.systemctl("start", "ringwire-frontend@a.service");
    expect(JSON.parse(ask("/status")).nics).toMatchObject([{ name: "a" }]);
    expect(systemd.property("ringwire-frontend@a.service", "StatusText")).toBe(
      "a on lan0, link up",
    );
    for (const unit of [DEVICE, "ringwire-frontend@a.service"]) {
      const pid = systemd.property(unit, "MainPID");
      const { text } = systemd.inside("cat", `/proc/${pid}/status`);
      expect(text).toMatch(/^Uid:\s+(?!0\b)\d+/m);
      for (const set of ["CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
        expect(text).toMatch(new RegExp(`^${set}:\\s+0+$`, "m"));
      }
      expect(text).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(text).toMatch(/^Seccomp:\s+2$/m);
    }
  });

  it("a NIC with tap.conf has its interface, and one right", () => {
    dropIn("ringwire-frontend@t.service", "tap.conf");
    dropIn("ringwire-frontend@t.service", "own.conf", "[Service]\nEnvironment=RINGWIRE_TAP=rw0\n");
    systemd.systemctl("start", "ringwire-frontend@t.service");
    expect(systemd.inside("ip", "-br", "link", "show", "rw0").text).toMatch(/^rw0 /);
    const pid = systemd.property("ringwire-frontend@t.service", "MainPID");
    const { text } = systemd.inside("cat", `/proc/${pid}/status`);
    // CAP_NET_ADMIN is bit 12.
    expect(text).toMatch(/^CapEff:\s+0000000000001000$/m);
    systemd.systemctl("stop", "ringwire-frontend@t.service");
    expect(systemd.inside("ip", "link", "show", "rw0").code).not.toBe(0);
  });

  it("a device that stands still is started again by the watchdog", async () => {
    dropIn(DEVICE, "watchdog.conf", "[Service]\nWatchdogSec=1\nRestartSec=0\n");
    systemd.systemctl("restart", DEVICE);
    const before = systemd.property(DEVICE, "MainPID");
    systemd.inside("kill", "-STOP", before);
    await eventually("another process", () => {
      const pid = systemd.property(DEVICE, "MainPID");
      return pid !== before && systemd.property(DEVICE, "ActiveState") === "active"
        ? true
        : undefined;
    });
    expect(JSON.parse(ask("/livez"))).toEqual({ ok: true });
    expect(Number(systemd.property(DEVICE, "NRestarts"))).toBe(1);
  });

  it("a device ends in good order", () => {
    systemd.systemctl("stop", DEVICE);
    expect(systemd.property(DEVICE, "Result")).toBe("success");
    expect(systemd.property(DEVICE, "ExecMainStatus")).toBe("0");
  });

  it("with locked.conf a device speaks TLS and knows its clients", () => {
    dropIn(DEVICE, "locked.conf");
    systemd.systemctl("start", DEVICE);
    const status = (...more: string[]) =>
      systemd.inside(
        ...["/run/tree/node_modules/node/bin/node", "/run/tree/dist/cli/ringwire.js", "status"],
        ...["--connect", "https://localhost:7700", "--ca", "/run/lab/ca.pem", "--json", ...more],
      );
    expect(status().text).toMatch(/HTTP 401/);
    const { code, text } = status("--token", admin);
    expect(code, text).toBe(0);
  });
});
