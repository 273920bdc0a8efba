/**
 * Work in another network namespace. What is opened there stays there: a TAP, a socket. Only this
 * thread moves, and it is back before anything else runs in it.
 */
import * as sys from "../reactor/sys.ts";
import { errnoText, TapError } from "./errors.ts";
import { failed } from "./open.ts";

/** Folder in which `ip netns add` names the namespaces. */
const NAMED = "/run/netns";

/** Runs `work` in the namespace of `fd`. Returns undefined when this thread may not enter it. */
export function inNamespaceOf<T>(fd: number, work: () => T): { readonly result: T } | undefined {
  const home = sys.open("/proc/thread-self/ns/net", sys.O_RDONLY | sys.O_CLOEXEC);
  if (home < 0) return undefined;
  try {
    if (sys.setns(fd, sys.CLONE_NEWNET) !== 0) return undefined;
    try {
      return { result: work() };
    } finally {
      goBack(home);
    }
  } finally {
    sys.close(home);
  }
}

function goBack(home: number): void {
  if (sys.setns(home, sys.CLONE_NEWNET) !== 0) throw failed("no way back to the own namespace");
}

/** Runs `work` in the namespace that `ip netns` calls `name`; here without one. Throws TapError. */
export function inNamespace<T>(name: string | undefined, work: () => T): T {
  if (name === undefined) return work();
  const fd = sys.open(`${NAMED}/${name}`, sys.O_RDONLY | sys.O_CLOEXEC);
  if (fd < 0) {
    const why = sys.errno();
    if (why !== sys.ENOENT) throw failed(`the namespace ${name} can't be opened`, why);
    throw new TapError(
      "TAP_NO_NAMESPACE",
      `there is no network namespace ${name}: make it with "sudo ip netns add ${name}"`,
    );
  }
  try {
    const done = inNamespaceOf(fd, work);
    if (done !== undefined) return done.result;
    throw new TapError(
      "TAP_NO_PERMISSION",
      `the network namespace ${name} can't be entered (${errnoText(sys.errno())}): run as root`,
    );
  } finally {
    sys.close(fd);
  }
}
