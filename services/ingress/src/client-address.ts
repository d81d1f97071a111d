/** A client's address; IPv4 clients of a listener for both families come in a long form. */
export function clientAddress(
  socket: { readonly remoteAddress?: string | undefined } | null | undefined,
): string {
  const address = socket?.remoteAddress ?? "";
  return address.startsWith("::ffff:") ? address.slice(7) : address;
}
