export { RouteTable } from "./src/route-table.ts";
