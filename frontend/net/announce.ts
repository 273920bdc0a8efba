/**
 * The frame by which a NIC that has moved says where it is now: every switch on its way learns the
 * new port from the source address. A reverse ARP request, as QEMU's self-announcement sends it:
 * nobody answers it, and it claims no address of layer 3.
 *
 *   0           6        12     14    16     18  19  20  22           28       32           38   42     60
 *   | broadcast | our mac | 8035 | 0001 | 0800 | 6 | 4 | 3 | our mac | 0.0.0.0 | our mac | 0.0.0.0 | pad |
 *
 * Source: RFC 903; qemu: net/announce.c, announce_self_create.
 */
const FRAME_BYTES = 60;
const ETHER_TYPE_RARP = 0x8035;
const HARDWARE_ETHERNET = 1;
const PROTOCOL_IPV4 = 0x0800;
const REQUEST_REVERSE = 3;

/** `mac`: six bytes. A frame of its own memory, padded to the least that Ethernet sends. */
export function selfAnnouncement(mac: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.fill(0xff, 0, 6);
  bytes.set(mac, 6);
  view.setUint16(12, ETHER_TYPE_RARP);
  view.setUint16(14, HARDWARE_ETHERNET);
  view.setUint16(16, PROTOCOL_IPV4);
  bytes[18] = 6;
  bytes[19] = 4;
  view.setUint16(20, REQUEST_REVERSE);
  bytes.set(mac, 22);
  bytes.set(mac, 32);
  return bytes;
}
