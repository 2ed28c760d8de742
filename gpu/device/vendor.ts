import type { AdapterDescription } from "./adapter.ts";

/** The makers of GPUs that tilereel tells apart. */
export type Vendor = "nvidia" | "amd" | "intel" | "apple";

/**
 * How sources name each maker: Dawn and browsers by a word, Deno by the number that PCI has for it. Under Metal, Deno
 * has no number, and the adapter's name tells.
 */
const NAMES: Readonly<Record<Vendor, { readonly vendor: RegExp; readonly name: RegExp }>> = {
  nvidia: { vendor: /^(nvidia|4318)$/i, name: /\b(nvidia|geforce|quadro|tesla)\b/i },
  amd: { vendor: /^(amd|4098)$/i, name: /\b(amd|radeon)\b/i },
  intel: { vendor: /^(intel|32902)$/i, name: /\bintel\b/i },
  apple: { vendor: /^(apple|4203)$/i, name: /^apple\b/i },
};

/** The maker of an adapter's hardware; undefined where it is unknown, and for software. */
export function vendorOf({ vendor, name, software }: Pick<AdapterDescription, "vendor" | "name" | "software">):
  | Vendor
  | undefined {
  if (software) return undefined;
  const found = (by: "vendor" | "name", text: string) =>
    (Object.keys(NAMES) as Vendor[]).find((vendor) => NAMES[vendor][by].test(text));
  return found("vendor", vendor) ?? found("name", name);
}
