/** The services that the queues of one virtual interface share. */
import type { SwitchPort } from "../../switch/port.ts";
import type { NetbackContext } from "./config.ts";
import type { MulticastList } from "./multicast.ts";

export interface Vif {
  readonly context: NetbackContext;
  readonly port: SwitchPort;
  readonly multicast: MulticastList;
  /** True while another port holds a frame for this interface. */
  readonly held: boolean;
  /** Counts a rule that the frontend broke. It cost one packet or one request. */
  note(code: string, text: string): void;
  /** Disables the interface. Every queue is closed when this returns. */
  fatal(code: string, text: string): void;
  /** Called when bytes have come for which a queue waits. */
  wake(): void;
}
