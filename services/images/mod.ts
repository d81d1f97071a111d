export type { BuiltImage, ImageProgress } from "./src/image-build.ts";
export {
  type EnsureOptions,
  ImageStore,
  type ImageStoreOptions,
  type StoredImage,
} from "./src/image-store.ts";
export type { MergeLimits } from "./src/layer-merge.ts";
export type { ImageConfig, Platform } from "./src/manifest.ts";
export { formatReference, type ImageReference, parseReference } from "./src/reference.ts";
export type { RegistryCredentials, RegistryOptions } from "./src/registry-client.ts";
