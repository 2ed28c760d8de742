/** The result of a trial for one family. */
export interface FamilyChoice {
  /** The fastest variant. */
  readonly variant: string;
  /** The milliseconds of each variant that ran. Slow variants ran once, and some may not have been tried. */
  readonly ms: Readonly<Record<string, number>>;
}

/** The results of a trial. */
export interface KernelChoices {
  /** A digest of the variants that it chose from. */
  readonly families: string;
  /** The time of the trial, as an ISO date. */
  readonly measured: string;
  /** By the names of the families. */
  readonly choices: Readonly<Record<string, FamilyChoice>>;
}

/**
 * Remembers JSON texts by key. It is a cache: a text that cannot be written or read is made again, so no function
 * throws.
 */
export interface TuningStore {
  get(key: string): string | undefined | Promise<string | undefined>;
  set(key: string, json: string): void | Promise<void>;
}

/** Reads the choices from a text; undefined if it is something else. */
export function parseChoices(json: string): KernelChoices | undefined {
  try {
    const value = JSON.parse(json), { families, measured, choices } = value;
    const known = typeof families === "string" && typeof measured === "string" && isObject(choices) &&
      Object.values(choices).every(isFamilyChoice);
    return known ? value : undefined;
  } catch {
    return undefined;
  }
}

function isFamilyChoice(value: unknown): boolean {
  return isObject(value) && isObject(value.ms) && typeof value.variant === "string" && value.variant in value.ms &&
    Object.values(value.ms).every((ms) => typeof ms === "number");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
