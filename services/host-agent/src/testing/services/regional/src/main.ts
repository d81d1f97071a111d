import { createServer } from "node:http";
import { standIn } from "../../../stand-in.ts";

const config = await standIn("regional", () => ({}));
createServer((_request, response) => response.end(JSON.stringify([{ node_id: config.node_id }]))).listen(
  config.api.port,
  config.api.host,
);
