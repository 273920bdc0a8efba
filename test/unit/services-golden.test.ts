/**
 * Exact bytes. The requests are captures of Linux 6.1, dhclient 4.4 and dig 9.18 on a segment with
 * these services. tshark and those programs accepted the answers.
 */
import { describe, expect, it } from "vitest";
import { ServiceStage } from "../support/service-stage.ts";

const SERVICES = {
  address: "10.99.0.1/24",
  address6: "fd00:99::1/64",
  icmp: true,
  dhcp: { reserve: { host0: "10.99.0.5" } },
  dns: true,
  ra: true,
};
const MAC = [0xbe, 0x67, 0x64, 0x89, 0xda, 0x81];
const hex = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replace(/\s/g, ""), "hex"));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const zeros = (bytes: number): string => "00".repeat(bytes);

function stage() {
  const made = new ServiceStage(SERVICES);
  made.add("host0", MAC);
  return made;
}

/** What the host answers to the first frame, as hexadecimal digits. */
const answerTo = (request: string, facts = {}): string[] =>
  stage().say(0, hex(request), facts).map(text);
const plain = (value: string): string => value.replace(/\s/g, "");

const DISCOVER = `ffffffffffff be676489da81 0800
  45100148 0000 0000 80 11 3996 00000000 ffffffff 0044 0043 0134 6744
  01010600 29c13c5f 0000 0000 ${zeros(16)} be676489da81 ${zeros(10)} ${zeros(192)}
  63825363 350101 3706 011c030f060c ff ${zeros(48)}`;
const REQUEST = `ffffffffffff be676489da81 0800
  45100148 0000 0000 80 11 3996 00000000 ffffffff 0044 0043 0134 90c7
  01010600 29c13c5f 0000 0000 ${zeros(16)} be676489da81 ${zeros(10)} ${zeros(192)}
  63825363 350103 36040a630001 32040a630005 3706 011c030f060c ff ${zeros(36)}`;
const reply = (type: string, checksum: string): string => `be676489da81 8a32b0fa4433 0800
  45000148 0000 4000 40 11 24da 0a630001 0a630005 0043 0044 0134 ${checksum}
  02010600 29c13c5f 0000 0000 00000000 0a630005 00000000 00000000
  be676489da81 ${zeros(10)} ${zeros(192)}
  63825363 3501${type} 36040a630001 330400000e10 3a0400000708 3b0400000c4e
  0104ffffff00 1c040a6300ff 06040a630001 0f036c6162 0c05686f737430 ff 0000`;

describe("exact bytes", () => {
  it("DHCP: an offer and an acknowledgement, as captured", () => {
    const made = stage();
    expect(made.say(0, hex(DISCOVER)).map(text)).toEqual([plain(reply("02", "5849"))]);
    expect(made.say(0, hex(REQUEST)).map(text)).toEqual([plain(reply("05", "5549"))]);
    expect(made.status.dhcp).toMatchObject({ leases: 1, offers: 0 });
  });

  it("ARP: RFC 826", () => {
    const head = "0001 0800 06 04";
    expect(
      answerTo(`ffffffffffff be676489da81 0806 ${head} 0001 be676489da81 0a630005
        000000000000 0a630001`),
    ).toEqual([
      plain(`be676489da81 8a32b0fa4433 0806 ${head} 0002 8a32b0fa4433 0a630001
        be676489da81 0a630005 ${zeros(18)}`),
    ]);
  });

  it("neighbour discovery: RFC 4861, 4.3 and 4.4", () => {
    expect(
      answerTo(`3333ff000001 be676489da81 86dd 60000000 0020 3a ff
        fd00009900000000bc6764fffe89da81 ff0200000000000000000001ff000001
        87 00 8683 00000000 fd000099000000000000000000000001 0101be676489da81`),
    ).toEqual([
      plain(`be676489da81 8a32b0fa4433 86dd 60000000 0020 3a ff
        fd000099000000000000000000000001 fd00009900000000bc6764fffe89da81
        88 00 a300 60000000 fd000099000000000000000000000001 02018a32b0fa4433`),
    ]);
  });

  it("router advertisement: RFC 4861, 4.2 and 4.6; RFC 8106, 5", () => {
    expect(
      answerTo(`333300000002 be676489da81 86dd 60000000 0010 3a ff
        fe80000000000000bc6764fffe89da81 ff020000000000000000000000000002
        85 00 8448 00000000 0101be676489da81`),
    ).toEqual([
      plain(`be676489da81 8a32b0fa4433 86dd 60000000 0060 3a ff
        fe800000000000008832b0fffefa4433 fe80000000000000bc6764fffe89da81
        86 00 cc1c 40 00 0000 00000000 00000000
        01018a32b0fa4433
        0304 40 c0 00015180 0000a8c0 00000000 fd000099000000000000000000000000
        1903 0000 00015180 fd000099000000000000000000000001
        1f02 0000 00015180 036c616200000000`),
    ]);
  });

  it("DNS: RFC 1035, 4; a blank checksum is completed on the way", () => {
    const facts = { needsCsum: true, csumStart: 34, csumOffset: 6 };
    expect(
      answerTo(
        `8a32b0fa4433 be676489da81 0800 4500004e 5fe2 0000 40 11 05f2 0a630005 0a630001
        827a 0035 003a 1517 8de2 0120 0001 0000 0000 0001 05686f737430036c616200 0001 0001
        00 0029 04d0 00000000 000c 000a 0008 6204c50be584dd19`,
        facts,
      ),
    ).toEqual([
      // A name's reservation answers before it has a lease.
      plain(`be676489da81 8a32b0fa4433 0800 4500005b 0000 4000 40 11 25c7 0a630001 0a630005
        0035 827a 0047 2746 8de2 8500 0001 0001 0000 0001 05686f737430036c616200 0001 0001
        05686f737430036c616200 0001 0001 0000001e 0004 0a630005 00 0029 04d0 00000000 0000`),
    ]);
    expect(
      answerTo(
        `8a32b0fa4433 be676489da81 0800 4500004f 5cd7 0000 40 11 08fc 0a630005 0a630001
        cfc7 0035 003b 1518 34fa 0120 0001 0000 0000 0001 066e6f626f6479036c616200 0001 0001
        00 0029 04d0 00000000 000c 000a 0008 e684331fca5d1b01`,
        facts,
      ),
    ).toEqual([
      plain(`be676489da81 8a32b0fa4433 0800 45000080 0000 4000 40 11 25a2 0a630001 0a630005
        0035 cfc7 006c 523f 34fa 8503 0001 0000 0001 0001 066e6f626f6479036c616200 0001 0001
        036c616200 0006 0001 00000005 002e 087365727669636573036c616200 066e6f626f6479036c616200
        00000001 00015180 00015180 00015180 00000005 00 0029 04d0 00000000 0000`),
    ]);
  });

  it("ICMP echo: RFC 792; the data come back", () => {
    expect(
      answerTo(`8a32b0fa4433 be676489da81 0800 45000024 0001 4000 40 01 260d 0a630005 0a630001
        08 00 99ba 4e30 0001 0102030405060708`),
    ).toEqual([
      plain(`be676489da81 8a32b0fa4433 0800 45000024 0000 4000 40 01 260e 0a630001 0a630005
        00 00 a1ba 4e30 0001 0102030405060708 ${zeros(10)}`),
    ]);
  });
});
