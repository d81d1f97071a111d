import { standIn } from "../../../stand-in.ts";

await standIn("images", () => ({ list: () => [] }));
