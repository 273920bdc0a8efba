/** An interface of a capture: its description, once in each file, and its counts. */
import { release, type } from "node:os";
import { LinkType } from "../pcapng/layout.ts";
import type { InterfaceInfo } from "../pcapng/writer.ts";
import type { CaptureInterface, InterfaceStats } from "./recorder-types.ts";

export class RecordedInterface implements InterfaceStats {
  readonly number: number;
  readonly name: string;
  readonly info: InterfaceInfo;
  /** Most bytes kept of a packet. */
  readonly snapBytes: number;
  received = 0;
  accepted = 0;
  dropped = 0;
  delivered = 0;
  /** `received` when the file at hand was told the counts; -1 before. */
  told = -1;
  /** Drops since the last packet that was written. */
  recentDrops = 0;

  constructor(
    number: number,
    given: CaptureInterface,
    snapBytes: number,
    filter: string | undefined,
  ) {
    const { name, description, mac, speed } = given;
    this.number = number;
    this.name = name;
    this.snapBytes = snapBytes;
    this.info = {
      linkType: given.layer === "ring" ? LinkType.WIRESHARK_UPPER_PDU : LinkType.ETHERNET,
      snapLength: snapBytes,
      name,
      description,
      mac,
      speed,
      filter,
      os: osName(),
    };
  }

  get counts(): InterfaceStats {
    const { name, received, accepted, dropped, delivered } = this;
    return { name, received, accepted, dropped, delivered };
  }
}

/** `Linux 6.1.0`. */
export const osName = (): string => `${type()} ${release()}`;
