/** A device in the test's own process: both personalities, on a free port of loopback. */
import { createEnaNic } from "../../device/ena/index.ts";
import { DeviceServer, type ServerOptions } from "../../device/server.ts";
import { Switch } from "../../device/switch/switch.ts";
import { createXenPersonality } from "../../device/xen/index.ts";
import { XenMachine } from "../../device/xen/machine.ts";
import { silentLogger } from "../../shared/log.ts";
import { Limits } from "../../shared/wire/transactions.ts";

export interface TestServerOptions extends Partial<ServerOptions> {
  /** Of every ENA NIC. */
  readonly ena?: Parameters<typeof createEnaNic>[1];
}

/** Not listening yet. Options that are not given are as in `ringwire device`; it writes no log. */
export function deviceServer({ ena, ...options }: TestServerOptions = {}): DeviceServer {
  const segmentName = "lan0";
  return new DeviceServer({
    host: "127.0.0.1",
    port: 0,
    agent: "test",
    segment: new Switch({ name: segmentName, now: () => performance.now() }),
    segmentName,
    personalities: {
      ena: { create: (host) => createEnaNic(host, ena) },
      xen: { create: createXenPersonality(new XenMachine(silentLogger), { bridge: segmentName }) },
    },
    pushBytes: Limits.PUSH_BYTES,
    maxMtu: 9216,
    maxQueues: 8,
    log: silentLogger,
    ...options,
  });
}
