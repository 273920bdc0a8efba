/** A device in the test's own process, on a free port of loopback. */
import { type Device, type DeviceOptions, openDevice } from "../../device/index.ts";

/** Options that are not given are as in `ringwire device`. It writes no log. */
export const testDevice = (options: DeviceOptions = {}): Promise<Device> =>
  openDevice({ listen: { port: 0 }, agent: "test", ...options });
