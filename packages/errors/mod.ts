export { HearthError, type HearthErrorOptions, type WireError } from "./src/hearth-error.ts";
export { type ErrorEntry, errorRegistry, type HearthErrorCode } from "./src/registry.ts";
