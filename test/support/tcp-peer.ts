/** One TCP connection with counts, for tests that break the layers under it. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Host } from "./lab.ts";

const PORT = 7007;
const PERIOD_MS = 10;

/** Sends 32-bit numbers from one host to another, which echoes every byte, and checks the echo. */
export class TcpPeer {
  /** How many numbers came back in order. */
  echoed = 0;
  /** "open" while the original connection lives, else the reason of its end. */
  state = "open";
  readonly #socket: Socket;
  readonly #echo: Server;
  #sent = 0;

  private constructor(socket: Socket, echo: Server) {
    this.#echo = echo;
    this.#socket = socket;
    socket.on("readable", () => {
      while (socket.readableLength >= 4) {
        const got = (socket.read(4) as Buffer).readUInt32LE();
        if (got !== this.echoed) this.state = `number ${got} came in the place of ${this.echoed}`;
        this.echoed++;
      }
    });
    socket.on("error", (error) => {
      this.state = error.message;
    });
    const timer = setInterval(() => this.#send(), PERIOD_MS);
    socket.on("close", () => {
      if (this.state === "open") this.state = "closed";
      clearInterval(timer);
    });
  }

  static async open(from: Host, to: Host): Promise<TcpPeer> {
    const echo = createServer({ noDelay: true }, (socket) => {
      socket.on("error", () => {});
      socket.pipe(socket);
    });
    {
      using _inside = to.namespace.enter();
      await once(echo.listen(PORT), "listening");
    }
    using _inside = from.namespace.enter();
    const socket = connect({ host: to.address, port: PORT, noDelay: true });
    await once(socket, "connect");
    return new TcpPeer(socket, echo);
  }

  #send(): void {
    // A stalled connection gets no more data.
    if (this.#socket.writableLength > 4096 || this.state !== "open") return;
    const number = Buffer.alloc(4);
    number.writeUInt32LE(this.#sent++);
    this.#socket.write(number);
  }

  close(): void {
    this.#socket.destroy();
    this.#echo.close();
  }
}
