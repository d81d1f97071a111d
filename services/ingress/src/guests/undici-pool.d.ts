/** The package's own entry loads all of `fetch` with it, which stays in memory. */
declare module "undici/lib/dispatcher/pool.js" {
  import { Pool } from "undici";
  export default Pool;
}
