import type { Address } from "../address.ts";

/** Where an assistant listens by default. */
export const USUAL_ADDRESS: Address = { hostname: "localhost", port: 8643 };
