import { join } from "node:path";

/** The prompts of a study that several processes share: each takes the next one that no other has taken. */
export class SharedPrompts {
  /**
   * @param folder where each prompt that is taken has a file
   * @param owner what tells this process from the others, also when it is started again
   */
  constructor(private readonly folder: string, private readonly owner: string) {}

  /** Takes a prompt. It is false if another process has it. */
  async take(prompt: number): Promise<boolean> {
    await Deno.mkdir(this.folder, { recursive: true });
    const file = join(this.folder, String(prompt));
    try {
      await Deno.writeTextFile(file, this.owner, { createNew: true });
      return true;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      return await Deno.readTextFile(file) === this.owner;
    }
  }
}
