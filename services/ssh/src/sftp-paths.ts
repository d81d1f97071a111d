/** Paths of a machine as an sftp client asks for them: by name, through links, and what the API cannot change itself. */
import { posix } from "node:path";
import { HearthError } from "@hearth/errors";
import type { FileInfo, HearthClient, Target } from "@hearth/sdk";
import type { Attributes } from "ssh2";
import { absolute } from "./sftp-attributes.ts";
import type { FilesOf } from "./sftp-files.ts";

export interface SftpMachine extends FilesOf {
  readonly client: HearthClient;
  readonly target: Target;
}

const longestLinks = 16;
const rootHome = "/root";

export class SftpPaths {
  readonly #of: SftpMachine;
  readonly #later = new Map<string, Attributes>();
  #home: Promise<string> | undefined;

  constructor(of: SftpMachine) {
    this.#of = of;
  }

  async real(path: string): Promise<string> {
    if (path.startsWith("/")) return absolute(path, "/");
    this.#home ??= this.#findHome();
    return absolute(path, await this.#home);
  }

  async stat(path: string, followLinks: boolean): Promise<FileInfo> {
    let full = await this.real(path);
    for (let hops = 0; hops < longestLinks; hops += 1) {
      const info = await this.#of.files.stat(this.#of.target, full);
      if (info.kind !== "symlink" || !followLinks || info.link_target === undefined) return info;
      full = posix.resolve(posix.dirname(full), info.link_target);
    }
    throw new HearthError("invalid_argument", { message: `${path} is a link that leads nowhere.` });
  }

  async find(path: string): Promise<FileInfo | undefined> {
    try {
      return await this.stat(path, true);
    } catch (thrown) {
      if (HearthError.from(thrown).code === "guest_path_not_found") return undefined;
      throw thrown;
    }
  }

  async list(path: string): Promise<FileInfo[]> {
    return await this.#of.files.list(this.#of.target, await this.real(path));
  }

  async readLink(path: string): Promise<string> {
    const { link_target } = await this.stat(path, false);
    if (link_target !== undefined) return link_target;
    throw new HearthError("invalid_argument", { message: `${path} is no link.` });
  }

  async removeFile(path: string): Promise<void> {
    const { kind } = await this.stat(path, false);
    if (kind === "directory")
      throw new HearthError("invalid_argument", { message: `${path} is a directory.` });
    await this.#of.files.remove(this.#of.target, await this.real(path));
  }

  async removeDirectory(path: string): Promise<void> {
    const { kind } = await this.stat(path, false);
    if (kind !== "directory")
      throw new HearthError("invalid_argument", { message: `${path} is no directory.` });
    await this.#of.files.remove(this.#of.target, await this.real(path));
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#of.files.mkdir(this.#of.target, await this.real(path));
  }

  /** Of version 3: what is there is not replaced. */
  async rename(from: string, to: string): Promise<void> {
    const [before, after] = [await this.real(from), await this.real(to)];
    if ((await this.find(after)) !== undefined)
      throw new HearthError("invalid_argument", { message: `${after} is there already.` });
    await this.#of.files.rename(this.#of.target, before, after);
  }

  async link(target: string, link: string): Promise<void> {
    await this.#run(["ln", "-s", target, await this.real(link)]);
  }

  /** The API has no call for these, so programs of the image do it, where it has them. */
  async set(path: string, attrs: Attributes): Promise<void> {
    const full = await this.real(path);
    if (attrs.mode !== undefined) await this.#run(["chmod", (attrs.mode & 0o7777).toString(8), full]);
    if (attrs.uid !== undefined) await this.#run(["chown", `${attrs.uid}:${attrs.gid}`, full]);
    if (attrs.mtime !== undefined) await this.#run(["touch", "-m", "-d", `@${attrs.mtime}`, full]);
  }

  /** For a file that is not there before it is closed. */
  setLater(path: string, attrs: Attributes): void {
    this.#later.set(path, { ...this.#later.get(path), ...attrs });
  }

  async settle(path: string): Promise<void> {
    const attrs = this.#later.get(path);
    this.#later.delete(path);
    if (attrs !== undefined) await this.set(path, attrs);
  }

  async #findHome(): Promise<string> {
    return (await this.find(rootHome))?.kind === "directory" ? rootHome : "/";
  }

  async #run(command: readonly [string, ...string[]]): Promise<void> {
    await using session = await this.#of.client.machines.exec(this.#of.target, { command: [...command] });
    session.stdout.resume();
    session.stderr.resume();
    const status = await session.exit;
    if (status.kind === "exited" && status.exit_code === 0) return;
    throw new HearthError("not_implemented", {
      message: `The image has no \`${command[0]}\` that could do this, or it failed.`,
    });
  }
}
