import { describe, expect, it } from "vitest";
import { addressKey, type Occupant, Places } from "../../device/http/places.ts";

class Guest implements Occupant {
  readonly address: string;
  evicted = 0;
  constructor(address: string) {
    this.address = address;
  }
  evict(): void {
    this.evicted++;
  }
}

const guests = (count: number, address: string) =>
  Array.from({ length: count }, () => new Guest(address));

describe("Places", () => {
  it("attack-S3: one address holds no more than its share, and its oldest goes first", () => {
    const places = new Places({ total: 10, perAddress: 4 });
    const [honest] = guests(1, "honest");
    places.add(honest!);
    const crowd = guests(100, "crowd");
    for (const guest of crowd) places.add(guest);
    expect(places.size).toBe(5);
    expect(honest!.evicted).toBe(0);
    expect(crowd.map((guest) => guest.evicted)).toEqual([
      ...Array.from({ length: 96 }, () => 1),
      ...Array.from({ length: 4 }, () => 0),
    ]);
  });

  it("attack-S3: many addresses hold no more than all places, and a newcomer gets one", () => {
    const places = new Places({ total: 10, perAddress: 4 });
    const crowd = Array.from({ length: 50 }, (_, i) => new Guest(`a${i}`));
    for (const guest of crowd) places.add(guest);
    expect(places.size).toBe(10);
    expect(crowd.findIndex((guest) => guest.evicted === 0)).toBe(40);
    expect(crowd.at(-1)!.evicted).toBe(0);
  });

  it("attack-S3: where nobody is sent away, a full house says so, and a free place is given", () => {
    const places = new Places({ total: 3, perAddress: 2 });
    const [a, b, c] = guests(3, "a");
    expect([a!, b!, c!].map((guest) => places.tryAdd(guest))).toEqual([true, true, false]);
    const others = [new Guest("b"), new Guest("c")];
    expect(others.map((guest) => places.tryAdd(guest))).toEqual([true, false]);
    places.delete(a!);
    places.delete(a!);
    expect(places.tryAdd(c!)).toBe(true);
    expect(places.size).toBe(3);
    expect([a!, b!, c!, ...others].map((guest) => guest.evicted)).toEqual([0, 0, 0, 0, 0]);
  });

  it("fault-K10: sheds the oldest, and says when nobody is left", () => {
    const places = new Places({ total: 9, perAddress: 9 });
    const all = guests(2, "a");
    for (const guest of all) places.add(guest);
    expect([places.shed(), all.map((guest) => guest.evicted)]).toEqual([true, [1, 0]]);
    expect([places.shed(), places.shed(), places.size]).toEqual([true, false, 0]);
  });
});

describe("addressKey", () => {
  it.each([
    ["10.0.0.1", "10.0.0.1"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["::FFFF:10.0.0.1", "10.0.0.1"],
    ["::1", "0:0:0:0::/64"],
    ["2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"],
    ["2001:db8:0:1::", "2001:db8:0:1::/64"],
    ["2001:DB8::1:2:3:4:5", "2001:db8:0:1::/64"],
    ["2001:db8::5", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["", ""],
  ])("attack-S3: %s counts as %s", (address, key) => {
    expect(addressKey(address)).toBe(key);
  });
});
