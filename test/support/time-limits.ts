/** Loaded before the tests of every file: sets the file's time limits by the present load. */
import { inject, vi } from "vitest";
import { slow } from "./slowness.ts";

/** Time limits of a project on the idle machine, in ms. */
export interface TimeLimits {
  readonly test: number;
  readonly hook: number;
}

declare module "vitest" {
  export interface ProvidedContext {
    limits: TimeLimits;
  }
}

const limits = inject("limits");
vi.setConfig({ testTimeout: slow(limits.test), hookTimeout: slow(limits.hook) });
