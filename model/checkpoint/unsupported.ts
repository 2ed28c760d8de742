/** What messages say of something that is not supported. */
interface Unsupported {
  /** What to do instead. */
  readonly todo: string;
  /** Names of options of other programs for it, without leading dashes. */
  readonly options?: readonly string[];
}

/** What is not supported yet, by what a file holds. Whoever adds support removes the line: messages go by it. */
export const UNSUPPORTED: Readonly<Record<string, Unsupported>> = {
  GGUF: { todo: "download the safetensors version of the same model, or convert it" },
};

/** A clause to put after what a file holds: it is not supported. Nothing, if it is. */
export function unsupportedClause(what: string): string {
  return what in UNSUPPORTED ? ", which is not supported" : "";
}
