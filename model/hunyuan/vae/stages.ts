import type { VaeConfig } from "./config.ts";

/** A resolution. */
export interface Stage {
  /** Channels of what comes in and of what its residual blocks give. */
  readonly cin: number;
  readonly cout: number;
  /** What the step to the next stage does; none behind the last. */
  readonly step: { readonly time: boolean } | undefined;
}

/** The stages of a half, in its order. Space changes behind the first three, time behind the second and third. */
export function stagesOf({ channels }: VaeConfig, half: "encoder" | "decoder"): Stage[] {
  const widths = half === "encoder" ? channels : channels.toReversed();
  return widths.map((cout, i) => ({
    cin: widths[Math.max(i - 1, 0)]!,
    cout,
    step: i < widths.length - 1 ? { time: i > 0 } : undefined,
  }));
}
