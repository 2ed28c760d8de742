import { tuningPath } from "../../gpu/native/tuning_file.ts";
import type { FamilyInUse, KernelsInUse } from "../../gpu/tuning/in_use.ts";
import { textTable } from "../../tools/program/text_table.ts";

/** Says which kernels run and why, as a sentence and a table. */
export function kernelsText({ measured, defaults, families }: KernelsInUse): string {
  if (families.length === 0) return "there is nothing to choose on this adapter.";
  const shipped = defaults === undefined
    ? "the first of each kind, because nobody has measured such an adapter yet"
    : `shipped defaults for ${defaults}`;
  const head = measured === undefined
    ? `${shipped}; "tilereel tune" tries all of them in some seconds.`
    : `chosen by "tilereel tune" on ${measured.slice(0, 10)}, which is remembered in ${tuningPath()}`;
  return `${head}\n${textTable(families.map((one) => [one.family, one.variant, reasonText(one, defaults)]))}`;
}

function reasonText({ variant, why, ms }: FamilyInUse, defaults: string | undefined): string {
  if (why === "shipped") return `shipped default for ${defaults}`;
  if (why === "first") return "the first of its kind";
  return ms ? `${ms[variant]!.toFixed(3)} ms, the fastest of ${Object.keys(ms).length} that ran` : "chosen";
}
