/**
 * The server's side of SFTP, version 3 (draft-ietf-secsh-filexfer-02), over the file calls of the API. Calls are
 * answered one after the other: a client may send many before it reads, and their order is what it relies on.
 */
import { HearthError } from "@hearth/errors";
import type { Attributes, SFTPWrapper } from "ssh2";
import { attributesOf, entryOf, openFlag, statusCode, statusOf } from "./sftp-attributes.ts";
import { type FilesOf, ReadFile, WriteFile } from "./sftp-files.ts";
import { type SftpMachine, SftpPaths } from "./sftp-paths.ts";

interface Directory {
  readonly entries: ReturnType<typeof entryOf>[];
}

type Handle = ReadFile | WriteFile | Directory;

export interface SftpLimits {
  readonly sftpHandles: number;
  readonly sftpWaiting: number;
}

const entriesAnAnswer = 64;

export class SftpSession {
  readonly #sftp: SFTPWrapper;
  #machine: { readonly of: FilesOf; readonly paths: SftpPaths } | undefined;
  readonly #limits: SftpLimits;
  readonly #handles = new Map<number, Handle>();
  #nextHandle = 0;
  #waiting = 0;
  #turn: Promise<void> = Promise.resolve();
  #isOver = false;
  bytesIn = 0;
  bytesOut = 0;

  constructor(sftp: SFTPWrapper, limits: SftpLimits) {
    this.#sftp = sftp;
    this.#limits = limits;
  }

  get #of(): FilesOf {
    return this.#known.of;
  }

  get #paths(): SftpPaths {
    return this.#known.paths;
  }

  get #known() {
    if (this.#machine === undefined) throw failure("It is not known yet which machine is meant.");
    return this.#machine;
  }

  /** Calls come at once, and wait until it is known which machine is meant. */
  serve(machine: Promise<SftpMachine>): void {
    this.#turn = machine.then(
      (of) => {
        this.#machine = { of, paths: new SftpPaths(of) };
      },
      () => undefined,
    );
    const sftp = this.#sftp;
    sftp.on("OPEN", (id, path, flags, attrs) => this.#do(id, () => this.#open(id, path, flags, attrs)));
    sftp.on("READ", (id, handle, offset, length) =>
      this.#do(id, () => this.#read(id, handle, offset, length)),
    );
    sftp.on("WRITE", (id, handle, offset, data) => {
      // ssh2 uses the memory of a packet again.
      const bytes = Buffer.from(data);
      this.#do(id, () => this.#write(id, handle, offset, bytes));
    });
    sftp.on("CLOSE", (id, handle) => this.#do(id, () => this.#close(id, handle)));
    sftp.on("OPENDIR", (id, path) => this.#do(id, () => this.#openDirectory(id, path)));
    sftp.on("READDIR", (id, handle) => this.#do(id, () => this.#readDirectory(id, handle)));
    sftp.on("FSTAT", (id, handle) => this.#do(id, () => this.#statHandle(id, handle)));
    sftp.on("FSETSTAT", (id, handle, attrs) => this.#do(id, () => this.#setHandle(id, handle, attrs)));
    sftp.on("LSTAT", (id, path) =>
      this.#do(id, async () => sftp.attrs(id, attributesOf(await this.#paths.stat(path, false)))),
    );
    sftp.on("STAT", (id, path) =>
      this.#do(id, async () => sftp.attrs(id, attributesOf(await this.#paths.stat(path, true)))),
    );
    sftp.on("REALPATH", (id, path) => this.#do(id, () => this.#name(id, this.#paths.real(path))));
    sftp.on("READLINK", (id, path) => this.#do(id, () => this.#name(id, this.#paths.readLink(path))));
    sftp.on("REMOVE", (id, path) => this.#change(id, () => this.#paths.removeFile(path)));
    sftp.on("RMDIR", (id, path) => this.#change(id, () => this.#paths.removeDirectory(path)));
    sftp.on("MKDIR", (id, path) => this.#change(id, () => this.#paths.makeDirectory(path)));
    sftp.on("RENAME", (id, from, to) => this.#change(id, () => this.#paths.rename(from, to)));
    sftp.on("SYMLINK", (id, target, link) => this.#change(id, () => this.#paths.link(target, link)));
    sftp.on("SETSTAT", (id, path, attrs) => this.#change(id, () => this.#paths.set(path, attrs)));
  }

  /** What is open is left as it was. */
  async stop(): Promise<void> {
    this.#isOver = true;
    const open = [...this.#handles.values()];
    this.#handles.clear();
    for (const each of open) {
      if (each instanceof WriteFile) await each.abort();
      else if (each instanceof ReadFile) await each.close();
    }
  }

  #change(id: number, change: () => Promise<void>): void {
    this.#do(id, async () => {
      await change();
      this.#sftp.status(id, statusCode.ok);
    });
  }

  #do(id: number, answer: () => Promise<void> | void): void {
    if (this.#isOver) return;
    // A client that does not wait for answers, or does not take them, is not one that would ever be served.
    if (++this.#waiting + unsentOf(this.#sftp) > this.#limits.sftpWaiting) {
      this.#isOver = true;
      this.#sftp.destroy();
      return;
    }
    this.#turn = this.#turn.then(async () => {
      try {
        if (!this.#isOver) await answer();
      } catch (thrown) {
        const { code, text } = statusOf(thrown);
        if (!this.#isOver) this.#sftp.status(id, code, text);
      } finally {
        this.#waiting -= 1;
      }
    });
  }

  async #name(id: number, path: Promise<string>): Promise<void> {
    const filename = await path;
    this.#sftp.name(id, [{ filename, longname: filename, attrs: {} as Attributes }]);
  }

  async #open(id: number, path: string, flags: number, attrs: Attributes): Promise<void> {
    const full = await this.#paths.real(path);
    const has = (flag: number): boolean => (flags & flag) !== 0;
    if (!has(openFlag.write)) {
      const { kind } = await this.#paths.stat(full, true);
      if (kind === "directory") throw failure(`${full} is a directory.`);
      return this.#keep(id, new ReadFile(this.#of, full));
    }
    if (has(openFlag.append) || has(openFlag.read))
      throw new HearthError("not_implemented", {
        message:
          "Files are written whole here, and neither continued nor read at the same time; copy the whole file.",
      });
    const there = await this.#paths.find(full);
    if (there?.kind === "directory") throw failure(`${full} is a directory.`);
    if (there !== undefined && has(openFlag.exclusive)) throw failure(`${full} is there already.`);
    if (there === undefined && !has(openFlag.create)) await this.#paths.stat(full, true);
    const mode = attrs.mode === undefined ? there?.mode : attrs.mode & 0o7777;
    const keeps = has(openFlag.truncate) ? undefined : there;
    this.#keep(id, new WriteFile(this.#of, { path: full, mode, keeps }));
  }

  async #read(id: number, handle: Buffer, offset: number, length: number): Promise<void> {
    const file = this.#find(handle);
    if (!(file instanceof ReadFile)) throw failure("The file is not open for reading.");
    const bytes = await file.read(offset, Math.min(length, 255 * 1024));
    if (this.#isOver) return;
    if (bytes === undefined) return this.#sftp.status(id, statusCode.eof);
    this.bytesOut += bytes.length;
    this.#sftp.data(id, bytes);
  }

  async #write(id: number, handle: Buffer, offset: number, data: Buffer): Promise<void> {
    const file = this.#find(handle);
    if (!(file instanceof WriteFile)) throw failure("The file is not open for writing.");
    await file.write(offset, data);
    this.bytesIn += data.length;
    this.#sftp.status(id, statusCode.ok);
  }

  async #close(id: number, handle: Buffer): Promise<void> {
    const open = this.#find(handle);
    this.#handles.delete(handle.readUInt32BE());
    if (open instanceof ReadFile || open instanceof WriteFile) await open.close();
    if (open instanceof WriteFile) await this.#paths.settle(open.path);
    this.#sftp.status(id, statusCode.ok);
  }

  async #openDirectory(id: number, path: string): Promise<void> {
    this.#keep(id, { entries: (await this.#paths.list(path)).map(entryOf) });
  }

  #readDirectory(id: number, handle: Buffer): void {
    const open = this.#find(handle);
    if (!("entries" in open)) throw failure("This is no directory.");
    const next = open.entries.splice(0, entriesAnAnswer);
    if (next.length === 0) this.#sftp.status(id, statusCode.eof);
    else this.#sftp.name(id, next);
  }

  async #statHandle(id: number, handle: Buffer): Promise<void> {
    const open = this.#find(handle);
    if (open instanceof WriteFile)
      return this.#sftp.attrs(id, { size: open.position, mode: 0o100644 } as Attributes);
    if (open instanceof ReadFile)
      return this.#sftp.attrs(id, attributesOf(await this.#paths.stat(open.path, true)));
    throw failure("A directory that is open is not described; ask for its path.");
  }

  async #setHandle(id: number, handle: Buffer, attrs: Attributes): Promise<void> {
    const open = this.#find(handle);
    if (open instanceof WriteFile) {
      if (attrs.size !== undefined) open.size = attrs.size;
      this.#paths.setLater(open.path, attrs);
    } else if (open instanceof ReadFile) await this.#paths.set(open.path, attrs);
    this.#sftp.status(id, statusCode.ok);
  }

  #keep(id: number, open: Handle): void {
    if (this.#isOver || this.#handles.size >= this.#limits.sftpHandles) {
      if (open instanceof WriteFile) void open.abort();
      throw failure(`This session has its ${this.#limits.sftpHandles} files open; close one.`);
    }
    const number = this.#nextHandle++;
    this.#handles.set(number, open);
    const handle = Buffer.alloc(4);
    handle.writeUInt32BE(number);
    this.#sftp.handle(id, handle);
  }

  #find(handle: Buffer): Handle {
    const open = handle.length === 4 ? this.#handles.get(handle.readUInt32BE()) : undefined;
    if (open === undefined) throw failure("There is no such handle.");
    return open;
  }
}

const failure = (message: string): HearthError => new HearthError("invalid_argument", { message });

/** Answers that the client's window has no room for. ssh2 keeps them and has no public word for it. */
const unsentOf = (sftp: SFTPWrapper): number =>
  (sftp as unknown as { readonly _buffer?: readonly unknown[] })._buffer?.length ?? 0;
