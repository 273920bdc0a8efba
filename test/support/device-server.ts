/** A device in the test's own process, on a free port of loopback. */
import { type Device, type DeviceOptions, openDevice } from "../../device/index.ts";

/** Options default as in `ringwire device`; nothing is logged. */
export const testDevice = (options: DeviceOptions = {}): Promise<Device> =>
  openDevice({ listen: { port: 0 }, agent: "test", ...options });
