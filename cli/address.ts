/** Where a process listens. */
export interface Address {
  /** A name or an address of the machine, without brackets. */
  readonly hostname: string;
  readonly port: number;
}

/** Reads an address as in `localhost:8643` or `[::1]:8643`; undefined if it is none. */
export function parseAddress(text: string): Address | undefined {
  const [, bracketed, name, digits] = /^(?:\[([\da-f:.%]+)\]|([\w.-]+)):(\d{1,5})$/i.exec(text) ?? [];
  const hostname = bracketed ?? name, port = Number(digits);
  return hostname === undefined || port > 65535 ? undefined : { hostname, port };
}

/** An address as users write it. */
export function addressText({ hostname, port }: Address): string {
  return `${bracketed(hostname)}:${port}`;
}

/** The host of an address as users write it. */
export function bracketed(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}
