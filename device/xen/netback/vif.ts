/** What the queues of one virtual interface have in common. */
import type { SwitchPort } from "../../switch/port.ts";
import type { NetbackContext } from "./config.ts";
import type { MulticastList } from "./multicast.ts";

export interface Vif {
  readonly context: NetbackContext;
  readonly port: SwitchPort;
  readonly multicast: MulticastList;
  /** Some other port holds a frame for us. */
  readonly held: boolean;
  /** One packet is lost, or one request refused, by a rule that the frontend broke: counted. */
  note(code: string, text: string): void;
  /** Disables the interface: every queue is closed when this returns. */
  fatal(code: string, text: string): void;
  /** Bytes that a queue waited for have come. */
  wake(): void;
}
