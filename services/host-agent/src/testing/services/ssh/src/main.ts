import { standIn } from "../../../stand-in.ts";

await standIn("ssh", () => ({}));
