/** `hearth token`: what lets somebody in. */
import type { Command } from "commander";
import type { Context } from "./context.ts";
import { defineTokenNode } from "./token-node.ts";

export function define(command: Command, context: Context): void {
  defineTokenNode(command.command("node"), context);
}
