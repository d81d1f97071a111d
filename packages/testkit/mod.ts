export {
  type Finished,
  finish,
  hostResources,
  type Json,
  type Platform,
  repositoryRoot,
  startPlatform,
} from "./src/platform.ts";
