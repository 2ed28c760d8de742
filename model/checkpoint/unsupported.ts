/** What messages say of something that is not supported. */
interface Unsupported {
  /** What to do instead. */
  readonly todo: string;
  /** Names of options of other programs for it, without leading dashes. */
  readonly options?: readonly string[];
}

/**
 * What is not supported yet, by what a file holds. When you add support, remove the line: all messages about it follow
 * this table.
 */
export const UNSUPPORTED: Readonly<Record<string, Unsupported>> = {
  GGUF: { todo: "download the safetensors version of the same model, or convert it" },
};

/**
 * What messages say of what a file holds: a clause that it is not supported, and what to do instead. If it is supported,
 * the clause is empty.
 */
export function support(what: string): { readonly clause: string; readonly todo?: string } {
  const { todo } = UNSUPPORTED[what] ?? {};
  return todo === undefined ? { clause: "" } : { clause: ", which is not supported", todo };
}
