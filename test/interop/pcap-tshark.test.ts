/** Classic pcap of every kind, read by tshark. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { pcapFile } from "../support/capture-files.ts";
import { missingProgram, outputOf } from "../support/installed.ts";
import { KINDS, PACKETS } from "../support/pcap-kinds.ts";

const why = missingProgram("tshark");
const folder = mkdtempSync(join(tmpdir(), "ringwire-pcap-"));
afterAll(() => rmSync(folder, { recursive: true }));

// tshark before 4.2 reads the time of Ixia's hardware as microseconds.
it.skipIf(why !== undefined).each(KINDS.filter(([what]) => what !== "Ixia, hardware"))(
  `ux-S16 of the kind %s is what tshark reads${why ?? ""}`,
  (_what, kind, link) => {
    const path = join(folder, "file.pcap");
    writeFileSync(path, pcapFile(PACKETS, link, kind));
    const fields = ["frame.cap_len", "frame.len", "frame.time_epoch", "eth.src"];
    const args = ["-r", path, "-T", "fields", ...fields.flatMap((field) => ["-e", field])];
    const rows = outputOf("tshark", args).toString().trimEnd().split("\n");
    const told = rows.map((row) => row.split("\t"));
    expect(told).toEqual(
      PACKETS.map(({ bytes, original = bytes.length, ns = 0n }) => [
        String(bytes.length),
        String(original),
        `${ns / 1_000_000_000n}.${String(ns % 1_000_000_000n).padStart(9, "0")}`,
        "02:00:00:00:09:01",
      ]),
    );
  },
);
