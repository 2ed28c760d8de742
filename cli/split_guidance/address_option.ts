import { type AboutValue, notation, type Option } from "../../tools/program/options.ts";
import { type Address, addressText, parseAddress } from "../address.ts";
import { USUAL_ADDRESS } from "./address.ts";

/** An option that takes an address. */
export function addressOption(about: Omit<AboutValue, "value">): Option<Address> {
  const expected = `a host and a port, as in ${addressText(USUAL_ADDRESS)}`;
  return notation({ ...about, value: "HOST:PORT" }, expected, parseAddress);
}
