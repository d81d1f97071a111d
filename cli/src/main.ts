/** The `hearth` command as a process. What takes time to load is loaded after the cache of compiled code is on. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";

// In the checkout, as a directory that others may write to could hold code of theirs. Without one it is slower.
enableCompileCache(join(import.meta.dirname, "../../.hearth/compile-cache"));
const { runProgram } = await import("./program.ts");
process.exit(await runProgram(process.argv.slice(2)));
