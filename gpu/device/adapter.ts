import type { MatrixUnits } from "../matrix_units.ts";

/** An adapter as it is shown to the user. */
export interface AdapterDescription {
  readonly name: string;
  /** The name of the source that offers it; see `DeviceSource`. */
  readonly source: string;
  readonly vendor: string;
  /**
   * Everything that the source reports about the adapter and its driver. Tuning results are valid for this string only.
   */
  readonly identity: string;
  /** It runs on the CPU: it is slow and may lack f16. */
  readonly software: boolean;
  /** Optional features tilereel can use that the adapter has. */
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  /** Absent where the adapter has no matrix units that tilereel can use. */
  readonly matrixUnits?: MatrixUnits | undefined;
}
