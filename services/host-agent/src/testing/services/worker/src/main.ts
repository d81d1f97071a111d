import { standIn, stopAll } from "../../../stand-in.ts";

await standIn("worker", (config) => ({ list: () => [], "stop-all": stopAll(config) }));
