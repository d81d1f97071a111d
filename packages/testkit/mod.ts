export {
  type Finished,
  finish,
  type Json,
  type Platform,
  repositoryRoot,
  startPlatform,
} from "./src/platform.ts";
