import { DeviceLostError, OutOfMemoryError, TilereelError } from "./common/errors.ts";

/**
 * The first error of a device. WebGPU reports errors late, and not where they were caused, so the error is kept here
 * until somebody asks for it.
 */
export class Failure {
  #error: Error | undefined;
  /** The first refused allocation. What uses its buffer is an error, too, which Dawn reports before the refusal. */
  #refusal: OutOfMemoryError | undefined;
  #final = false;

  constructor(device: GPUDevice) {
    device.lost.then(({ reason, message }) => {
      this.#final = true;
      this.note(
        new DeviceLostError(
          `the GPU was lost while working (${message || reason}): another program may have used up its memory, ` +
            `or its driver restarted; run the command again, with a smaller size if it happens again`,
        ),
      );
    });
    device.addEventListener("uncapturederror", (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      event.preventDefault(); // Dawn would print it, too
      // Compared by name, because each source of devices has its own error class.
      this.note(
        error.constructor.name === "GPUOutOfMemoryError"
          ? new OutOfMemoryError(
            `too little memory: the GPU refused an allocation (${error.message}); use a smaller size or fewer frames`,
          )
          : new Error(`WebGPU: ${error.message}`),
      );
    });
  }

  get happened(): boolean {
    return this.#error !== undefined;
  }

  /** The refused allocation that may have caused all errors; it is reported late. */
  get refusal(): OutOfMemoryError | undefined {
    return this.#refusal;
  }

  /** Remembers an error, unless there is an earlier one. */
  note(error: Error): void {
    if (error instanceof OutOfMemoryError) this.#refusal ??= error;
    this.#error ??= error;
  }

  /** Throws the error, if there is one. */
  check(): void {
    if (this.#error) throw this.#error;
  }

  /**
   * Forgets the error.
   *
   * @returns false where the device is lost or closed, which is not forgotten
   */
  forget(): boolean {
    if (!this.#final) this.#error = this.#refusal = undefined;
    return !this.#final;
  }

  /** Makes every later use of the device fail, because it is closed. */
  close(): void {
    this.#error = new TilereelError("this Gpu is closed: open a new one with openGpu");
    this.#final = true;
  }
}
