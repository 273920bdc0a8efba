/** One small edit for each row of the netfront checklist, N1 to N29. */
import type { Mutant } from "./mutants.ts";

const BUS_DMA_TEST = "test/seed/bus-dma-xen.test.ts";
const MAP = "frontend/xen/bus-dma-xen/map.ts";

export const netfrontMutants: readonly Mutant[] = [
  {
    row: "N9",
    test: BUS_DMA_TEST,
    file: MAP,
    search: "grants.grantForeignAccessRef(this.#refs[i]!, domid, address, this.#readonly);",
    replace: "grants.grantForeignAccessRef(this.#refs[i]!, domid, address, false);",
    breaks: "a read-only load may be written",
  },
  {
    row: "N10",
    test: BUS_DMA_TEST,
    file: MAP,
    search: "if (!this.#prealloc) this.#freeReferences();",
    replace: "this.#freeReferences();",
    breaks: "unload gives up the map's own reference",
  },
  {
    row: "N11",
    test: BUS_DMA_TEST,
    file: MAP,
    search: "this.#machine.destroy();\n    this.#freeReferences();",
    replace: "this.#machine.destroy();",
    breaks: "destroy keeps the references",
  },
  {
    row: "N24",
    test: BUS_DMA_TEST,
    file: "frontend/xen/pool.ts",
    search: 'from "./bus-dma-xen/index.ts"',
    replace: 'from "./bus-dma-xen/map.ts"',
    breaks: "the driver looks behind the public header",
  },
  {
    row: "N28",
    test: BUS_DMA_TEST,
    file: MAP,
    search: "return (flags & BUS_DMA_NOWAIT) === 0 && !this.#prealloc;",
    replace: "return !this.#prealloc;",
    breaks: "a load with NOWAIT waits",
  },
];
