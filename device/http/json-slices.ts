import { slice } from "../../shared/slices.ts";

/**
 * As JSON.stringify, for an object whose arrays are long: other events of the process have their turn
 * between the items of its arrays.
 */
export async function jsonInSlices(value: object): Promise<string> {
  const members: string[] = [];
  for (const [name, member] of Object.entries(value) as [string, unknown][]) {
    let text: string | undefined;
    if (Array.isArray(member)) {
      const items: string[] = [];
      for (const item of member) {
        items.push(JSON.stringify(item) ?? "null");
        await slice();
      }
      text = `[${items.join(",")}]`;
    } else {
      text = JSON.stringify(member);
      await slice();
    }
    if (text !== undefined) members.push(`${JSON.stringify(name)}:${text}`);
  }
  return `{${members.join(",")}}`;
}
