import { TilereelError } from "../../gpu/common/errors.ts";
import { isSameToken } from "../token.ts";
import { type Address, addressText } from "../address.ts";
import type { Hello } from "./hello.ts";
import { framesOf, type Head } from "./message.ts";
import { type Helper, type Line, Session } from "./session.ts";

/** An assistant, which main processes connect to. */
export interface AssistantServerOptions {
  readonly address: Address;
  readonly token?: string | undefined;
  readonly helper: Helper & { hello(): Promise<Hello> };
  /** Told when a main process has come, and when it has gone. */
  readonly onVisit?: (event: "come" | "gone") => void;
}

/** Seconds in which a machine that lost its power is noticed. A software adapter may keep a process busy for minutes. */
const SILENCE = 600;

/**
 * Listens for main processes, and helps one at a time.
 *
 * @throws {TilereelError} if it cannot listen there
 */
export function serveAssistant(
  { address, token, helper, onVisit }: AssistantServerOptions,
): Deno.HttpServer<Deno.NetAddr> {
  let busy = false, before = Promise.resolve();
  const handler = (request: Request): Response => {
    const { origin, authorization, upgrade } = Object.fromEntries(request.headers);
    // Pages of any site could connect to this machine. Browsers always say which page it is.
    if (origin !== undefined) return new Response("this assistant does not answer pages\n", { status: 403 });
    if (token !== undefined && !isSameToken(authorization?.replace(/^Bearer /i, "") ?? "", token)) {
      return new Response("this request has not the assistant's token\n", { status: 401 });
    }
    if (upgrade?.toLowerCase() !== "websocket") {
      return new Response('this is an assistant for "tilereel generate --split-guidance"\n', { status: 426 });
    }
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: SILENCE });
    socket.binaryType = "arraybuffer";
    const line: Line = {
      send: (frame) => socket.readyState === WebSocket.OPEN && socket.send(frame),
      close: () => socket.close(),
    };
    const say = (head: Head) => framesOf({ head, tensors: {} }).forEach(line.send);
    if (busy) {
      socket.onopen = () => {
        say({ kind: "busy", why: "it helps another process; start a second assistant, or wait until that is done" });
        socket.close();
      };
      return response;
    }
    busy = true;
    const session = new Session(line, helper, before);
    let closed = false;
    const gone = () => {
      if (closed) return;
      closed = true;
      busy = false;
      before = session.end();
      onVisit?.("gone");
    };
    socket.onopen = async () => {
      onVisit?.("come");
      try {
        await before;
        say({ kind: "hello", ...await helper.hello() });
      } catch (error) {
        const why = error instanceof TilereelError ? error.message : "something went wrong there";
        say({ kind: "refused", why });
        socket.close();
      }
    };
    socket.onmessage = ({ data }) => session.take(data);
    socket.onclose = socket.onerror = gone;
    return response;
  };
  const { hostname, port } = address;
  try {
    return Deno.serve({ hostname, port, onListen: () => {} }, handler);
  } catch (error) {
    const why = error instanceof Deno.errors.AddrInUse
      ? `${addressText(address)} is in use: end what uses it, or choose another port with --listen`
      : `${addressText(address)} cannot be listened at: ${(error as Error).message}`;
    throw new TilereelError(why, { cause: error, option: "listen" });
  }
}
