export {
  type EnsureOptions,
  type ImageProgress,
  ImageStore,
  type ImageStoreOptions,
  type StoredImage,
} from "./src/image-store.ts";
export { formatReference, type ImageReference, parseReference } from "./src/reference.ts";
