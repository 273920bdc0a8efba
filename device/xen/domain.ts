/** A guest as its hypervisor knows it: a domain, its grant table, and the calls in both directions. */
import type { XenStatus } from "../../shared/status/device-status.ts";
import type { GrantRecords, PackedRecords, Received } from "../../shared/wire/catalogue.ts";
import { FaultSeverity, WireError } from "../../shared/wire/protocol.ts";
import { GRANT_USE_RECORD_SIZE, grantRef, grantUseRecord } from "../../shared/xen/grant.ts";
import { XenErrno } from "../../shared/xen/hypercall.ts";
import type { GuestCalls, GuestHost } from "../nic.ts";
import { GrantTable } from "./grant-table.ts";
import { dispatch } from "./hypercalls.ts";
import type { Domain, XenMachine } from "./machine.ts";
import { shutdownPath } from "./toolstack.ts";
import { DEFAULT_QUOTAS, TURN_WORK } from "./xenstore/index.ts";

export class GuestDomain implements Domain, GuestCalls {
  readonly domid: number;
  readonly grants: GrantTable;
  readonly #machine: XenMachine;
  readonly #host: GuestHost;
  readonly #useRecord = new Uint8Array(GRANT_USE_RECORD_SIZE);
  readonly #useView = new DataView(this.#useRecord.buffer);
  #suspended: (() => void) | undefined;
  #released = false;
  /** Requests of this batch to the store. None of them is answered before the batch ends. */
  #asked = 0;

  /** Introduces itself to the machine. */
  constructor(machine: XenMachine, host: GuestHost) {
    this.#machine = machine;
    this.#host = host;
    this.domid = machine.newDomid();
    this.grants = new GrantTable({
      domid: this.domid,
      // One record at a time: a use that outlasts a batch is rare.
      use: (reference, readers, writers) => {
        grantUseRecord.write(this.#useView, 0, grantRef(reference), readers, writers);
        host.post("grant_use", { records: this.#useRecord });
      },
    });
    machine.introduce(this);
  }

  // What the machine tells the guest.

  readonly turnWork = TURN_WORK;
  upcall(port: number): void {
    this.#host.event(port);
  }
  deliver(message: Uint8Array): void {
    this.#host.post("xenstore", { bytes: message });
  }
  room(): boolean {
    return this.#host.askToWork();
  }
  cut(reason: WireError): void {
    this.#host.fault(FaultSeverity.DEVICE, reason.code, reason.message);
  }
  suspended(): number {
    const done = this.#suspended;
    if (done === undefined) return XenErrno.EINVAL;
    this.#suspended = undefined;
    done();
    return 0;
  }

  // What the guest asks.

  grant({ version, view, at, count }: GrantRecords): void {
    this.grants.grant(version, view, at, count);
  }
  endGrant({ view, at, count }: PackedRecords): void {
    this.grants.endGrant(view, at, count);
  }
  hypercall({ tag, number, command, bytes }: Received<"hypercall">): void {
    const result = dispatch(this.#machine, this.domid, number, command, bytes);
    this.#host.post("hypercall_reply", { tag, ...result });
  }
  event({ port }: Received<"event">): void {
    this.#machine.events.send(this.domid, port);
  }
  xenstore({ bytes }: Received<"xenstore">): void {
    if (++this.#asked > DEFAULT_QUOTAS.outstanding) {
      const text = `xenstore: more than ${DEFAULT_QUOTAS.outstanding} requests in one batch`;
      throw new WireError("XENSTORE_OUTSTANDING", text);
    }
    this.#machine.xenstore.request(this.domid, bytes);
  }
  batchEnd(): void {
    this.#asked = 0;
  }

  /** Asks the guest to suspend. Calls `done` when it has. */
  suspend(done: () => void): void {
    this.#suspended = done;
    this.#machine.store.write(shutdownPath(this.domid), "suspend");
    this.#machine.settle();
  }

  /** The domain ends: its ports, watches, transactions and grants with it. */
  release(): void {
    this.#released = true;
    this.#machine.release(this);
  }

  /** Resources of the machine that the domain uses; none after its release. */
  use(): Pick<XenStatus, "store" | "events"> {
    if (this.#released) return {};
    const { xenstore, events } = this.#machine;
    return { store: xenstore.use(this.domid), events: events.use(this.domid) };
  }
}
