/** What there is to call, for people and generators. */
import Type from "typebox";
import type { ApiContext } from "../api-context.ts";
import type { App } from "./http-server.ts";

export function openApiRoutes(app: App, context: ApiContext): void {
  let document: Promise<object> | undefined;
  app.get(
    "/v1/openapi.json",
    {
      config: { open: true },
      schema: {
        tags: ["platform"],
        summary: "This API as OpenAPI 3.1",
        security: [],
        response: { 200: Type.Unknown({ description: "The document." }) },
      },
    },
    async () => {
      document ??= context.openApi();
      return document;
    },
  );
}
