import { standIn } from "../../../stand-in.ts";

await standIn("ingress", () => ({ health: () => ({ problems: [] }) }));
