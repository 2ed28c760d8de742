/**
 * The secret that a server asks for, where programs of other machines can reach it.
 *
 * @module
 */
import { timingSafeEqual } from "node:crypto";
import { variable } from "../gpu/common/environment.ts";
import { TilereelError } from "../gpu/common/errors.ts";
import { type Option, text } from "../tools/program/options.ts";

/** A secret that can be guessed is none. */
const SHORTEST = 16;

/** Names of this machine that only programs on it can reach, as addresses have them. */
export const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/** --token. */
export function tokenOption(help: string): Option<string> {
  return text({
    value: "SECRET",
    help: `${help} TILEREEL_TOKEN says it, too, and other users of the machine do not see it there.`,
    default: "none",
  });
}

/**
 * The secret of the option, or of the environment.
 *
 * @throws {TilereelError} with the `option`, if it is too short
 */
export function tokenOf(given: string | undefined): string | undefined {
  const token = given ?? variable("TILEREEL_TOKEN");
  // What a header can carry.
  if (token === undefined || token.length >= SHORTEST && /^[\x21-\x7e][\x20-\x7e]*[\x21-\x7e]$/.test(token)) {
    return token;
  }
  throw new TilereelError(
    `--token must have at least ${SHORTEST} characters, all of ASCII, and no blank at either end`,
    { option: "token" },
  );
}

/**
 * The secret of a server.
 *
 * @param host the name or address that it listens at
 * @param option how the user says that: "--host"
 * @throws {TilereelError} with the `option`, if there is none and other machines can reach it
 */
export function serverTokenOf(given: string | undefined, host: string, option: string): string | undefined {
  const token = tokenOf(given);
  if (token !== undefined || LOOPBACK.includes(host) || host === "::1") return token;
  throw new TilereelError(`${option} ${host} lets other machines in, so --token SECRET is needed`, { option: "token" });
}

/** Whether both are the same. It takes a time that does not tell how much is equal. */
export function isSameToken(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => new TextEncoder().encode(text)) as [Uint8Array, Uint8Array];
  return left.length === right.length && timingSafeEqual(left, right);
}
