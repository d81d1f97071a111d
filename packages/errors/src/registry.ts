/**
 * The one registry of errors that leave a component.
 *
 * A code is a promise: clients branch on it, so it is never renamed and never reused. `text` is what a
 * person reads when the thrower has nothing more precise to say; it ends with what to do next. The cause
 * of an error belongs to the logs and is never part of the text. docs/errors.md is compared with this
 * table by a test.
 */
export interface ErrorEntry {
  /** HTTP status that the public API answers with. */
  readonly status: number;
  /** Public sentence: what happened, and what to do. */
  readonly text: string;
  /** Whether the same request may succeed later without being changed. */
  readonly retryable: boolean;
}

const entry = (status: number, retryable: boolean, text: string): ErrorEntry => ({ status, retryable, text });

export const errorRegistry = {
  // requests
  invalid_argument: entry(
    400,
    false,
    "The request has a field that is not valid; correct the field that is named.",
  ),
  unknown_field: entry(
    400,
    false,
    "The request has a field that nobody knows; remove the field that is named.",
  ),
  malformed_json: entry(400, false, "The request body is not JSON; send a JSON object."),
  unauthenticated: entry(
    401,
    false,
    "The token is missing or not valid; send `Authorization: Bearer <token>`.",
  ),
  permission_denied: entry(403, false, "The token does not allow this; use one with a wider scope."),
  not_found: entry(404, false, "There is nothing at this path; check the path."),
  conflict: entry(409, true, "Something else changed this at the same time; read it again and retry."),
  payload_too_large: entry(413, false, "The request body is larger than this listener takes; send less."),
  internal: entry(500, true, "Hearth failed to do this; the service's log names the cause."),
  unavailable: entry(503, true, "The part that owns this does not answer; try again in a moment."),
  deadline_exceeded: entry(
    408,
    true,
    "It did not happen within the time limit; wait longer or look at the events.",
  ),
  cancelled: entry(
    499,
    false,
    "The caller went away before this was done; ask again when it is still wanted.",
  ),
  not_implemented: entry(
    501,
    false,
    "This version of Hearth does not do this yet; the changelog says when it does.",
  ),

  // machines
  app_not_found: entry(404, false, "There is no such app; create it first."),
  network_not_found: entry(404, false, "There is no such network; list the networks of the organisation."),
  network_in_use: entry(
    409,
    false,
    "The network is used by apps or pairs; delete the apps and end the pairs first.",
  ),
  machine_not_found: entry(404, false, "There is no such machine; list the machines of the app."),
  name_taken: entry(422, false, "The name has already been taken; choose another one."),
  illegal_transition: entry(
    412,
    false,
    "The machine cannot do this in its present state; wait or look at its state.",
  ),
  lease_held: entry(
    409,
    true,
    "Somebody else holds the lease of this machine; wait until it expires, or send its nonce.",
  ),
  lease_not_found: entry(404, false, "The machine has no lease; acquire one first."),
  insufficient_capacity: entry(409, true, "No node has room for this machine; stop one or ask for less."),
  reservation_expired: entry(
    409,
    true,
    "The room that was held for this machine was held too long and given back; reserve again.",
  ),
  reservation_not_held: entry(
    409,
    false,
    "No reservation with this fence is held here: it was used, or another took its place; reserve again.",
  ),
  update_rolled_back: entry(
    409,
    false,
    "The new version could not start and the one before it is back; correct its configuration and update again.",
  ),
  machine_memory_too_small: entry(422, false, "The memory is too small to boot; ask for more."),
  entrypoint_not_found: entry(422, false, "The image has no such program; check the command and the image."),
  no_command: entry(
    422,
    false,
    "The image names no program and the request gives none; set init.cmd or init.exec.",
  ),

  // virtual machine monitors
  vmm_start_failed: entry(500, true, "The virtual machine did not start; its console tail says more."),
  vmm_not_running: entry(409, false, "The virtual machine is not running; start the machine."),
  vmm_unsupported: entry(
    501,
    false,
    "This driver cannot do this on this host; `hearth doctor` says what it can.",
  ),
  vmm_snapshot_invalid: entry(
    409,
    false,
    "The snapshot is incomplete or was made by another kind of VMM; make a new one.",
  ),

  // guests
  guest_unreachable: entry(504, true, "The guest agent does not answer; look at the machine's console."),
  guest_channel_broken: entry(502, true, "The connection to the guest agent broke; try again."),
  guest_path_not_found: entry(404, false, "There is no such path in the guest; check the path."),
  guest_configure_failed: entry(
    500,
    true,
    "The guest could not apply the machine's name, addresses or files; look at the machine's console.",
  ),
  guest_user_unknown: entry(422, false, "The guest has no such user; check the user and the image."),

  // images
  image_reference_invalid: entry(
    400,
    false,
    "The image reference is not valid; write it as registry/repository:tag.",
  ),
  image_not_found: entry(404, false, "There is no such image; check the name and the tag."),
  image_unauthorized: entry(422, false, "The registry refused the credentials; log in to the registry."),
  image_platform_missing: entry(
    422,
    false,
    "The image has no variant for this architecture; use one built for it.",
  ),
  image_digest_mismatch: entry(422, false, "A downloaded part does not match its digest; it was refused."),
  image_format_unsupported: entry(
    422,
    false,
    "The image has a format that is not supported; push it as OCI or Docker v2.",
  ),
  image_layer_hostile: entry(422, false, "A layer tries to do what no layer may; the image was refused."),
  image_too_large: entry(
    422,
    false,
    "The image is larger than this node allows; raise the limit or shrink the image.",
  ),
  image_in_use: entry(409, false, "A machine uses this image; destroy the machine first."),
  registry_unavailable: entry(502, true, "The registry does not answer; try again or check the network."),
  disk_full: entry(507, true, "The disk of this node is full; free some space and try again."),

  // certificates
  hostname_taken: entry(
    422,
    false,
    "The name belongs to an app already; remove it there first, or ask the operator of the region.",
  ),
  hostname_invalid: entry(422, false, "The name cannot be a custom domain; use a full name that you own."),
  hostname_not_found: entry(404, false, "The app has no such custom domain; list its certificates."),
  certificate_invalid: entry(
    422,
    false,
    "The certificate or its key is not fit to be shown; send the chain and the key that belong to the name.",
  ),
  acme_refused: entry(502, true, "The certificate authority refused; its own words say why."),

  // the bus
  bus_refused: entry(
    403,
    false,
    "The bus does not let this service say or hear that; a node may only speak for itself.",
  ),
  bus_full: entry(
    507,
    true,
    "The bus has no room for more state of the region; destroy what is not needed, or give its servers a larger store.",
  ),
  bus_unauthorized: entry(
    401,
    true,
    "The bus does not know this service's key; join the host again if it was removed from its region.",
  ),

  // joining a region
  join_token_invalid: entry(
    403,
    false,
    "The region does not know this join token; make one with `hearth token node` on a host of the region.",
  ),
  join_token_expired: entry(403, false, "The join token has expired; make another with `hearth token node`."),
  join_token_used: entry(
    403,
    false,
    "Another host has joined with this token; make one for each host with `hearth token node`.",
  ),
  node_id_taken: entry(
    409,
    false,
    "The region has a node of this id with other keys; remove the copied data directory of this host.",
  ),
  node_version_too_old: entry(
    409,
    false,
    "This host runs an older Hearth than its region; install the region's version and join again.",
  ),
  clock_wrong: entry(
    409,
    true,
    "The clocks of this host and its region differ too much; set the clock (NTP) and join again.",
  ),
  region_unreachable: entry(
    503,
    true,
    "No API of the region answers; check that it runs and that this host reaches it.",
  ),
  region_not_reachable: entry(
    409,
    false,
    "No API of this region has an address that other hosts reach; start one with `hearth up --address`.",
  ),
  already_joined: entry(
    409,
    false,
    "This host belongs to a region already; remove its data directory to have it join another.",
  ),
  too_many_requests: entry(429, true, "That was asked too often; wait a minute and try again."),

  // hosts
  database_unwritable: entry(
    503,
    true,
    "The worker's database cannot be written, so it takes no work; make room on its disk and try again.",
  ),
  database_corrupt: entry(
    500,
    false,
    "The worker's database is damaged; put back a copy of it. Its machines run on.",
  ),
  host_requirement_missing: entry(
    500,
    false,
    "This host lacks something that Hearth needs; install what is named.",
  ),
  network_exhausted: entry(507, true, "No address is left in this network; destroy a machine first."),
} as const satisfies Record<string, ErrorEntry>;

export type HearthErrorCode = keyof typeof errorRegistry;
