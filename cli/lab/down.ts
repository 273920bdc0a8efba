/** `ringwire lab down`: ends and removes what belongs to the lab, whatever is left of it. */
import type { Output } from "../common/output.ts";
import { namespacesOf, removeNamespaces } from "./network.ts";
import { endProcesses, labProcesses } from "./processes.ts";
import type { LabState } from "./state.ts";

/** Captures end first, so that their files are whole. The device ends last. */
const ORDER = ["capture", "nic", "device"];

/** Takes a lab down, and removes its folder. The caller holds its lock. Rejects with Failure. */
export async function takeDown(id: string, state: LabState, output: Output): Promise<void> {
  const running = labProcesses(id);
  const kindOf = (part: string): string => part.split(" ")[0] ?? "";
  for (const kind of ORDER) {
    await endProcesses(running.filter(({ part }) => kindOf(part) === kind));
  }
  // An `up` that was killed may have started another part meanwhile.
  const rest = labProcesses(id);
  await endProcesses(rest);
  const isRoot = process.geteuid?.() === 0;
  const namespaces = isRoot ? await namespacesOf(id, state.namespaces) : [];
  await removeNamespaces(namespaces);
  state.remove();
  const ended = running.length + rest.length;
  const nothing = ended + namespaces.length === 0;
  output.event(
    nothing
      ? `nothing of lab ${id} was up`
      : `lab ${id} is down: ${ended} processes ended, ${namespaces.length} namespaces removed`,
    { event: "down", lab: id, ended, namespaces: namespaces.length },
  );
}
