import { Slices } from "../../shared/slices.ts";

/**
 * As JSON.stringify, for an object whose arrays are long: other events of the process have their turn
 * between the items of its arrays.
 */
export async function jsonInSlices(value: object): Promise<string> {
  const slices = new Slices();
  const members: string[] = [];
  for (const [name, member] of Object.entries(value) as [string, unknown][]) {
    let text: string | undefined;
    if (Array.isArray(member)) {
      const items: string[] = [];
      for (const item of member) {
        items.push(JSON.stringify(item) ?? "null");
        await slices.turn();
      }
      text = `[${items.join(",")}]`;
    } else {
      text = JSON.stringify(member);
      await slices.turn();
    }
    if (text !== undefined) members.push(`${JSON.stringify(name)}:${text}`);
  }
  return `{${members.join(",")}}`;
}
