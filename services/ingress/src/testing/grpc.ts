/** gRPC for the tests: a service without schema, whose messages are bytes, in grpc-js's own client and server. */
import {
  credentials,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";

const same = (bytes: Buffer): Buffer => bytes;
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});

export const echoService = {
  unary: method("Unary", false, false),
  download: method("Download", false, true),
  upload: method("Upload", true, false),
  chat: method("Chat", true, true),
} satisfies ServiceDefinition;

/** A server of this process; resolves with it and its port. */
export async function startGrpcGuest(
  implementation: UntypedServiceImplementation,
): Promise<{ readonly server: Server; readonly port: number }> {
  const server = new Server({ "grpc.max_receive_message_length": -1 });
  const whole = Object.fromEntries(
    Object.keys(echoService).map((name) => [
      name,
      implementation[name] ??
        (() => {
          throw new Error(`${name} is not part of this test`);
        }),
    ]),
  );
  server.addService(echoService, whole as UntypedServiceImplementation);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  return { server, port };
}

export const EchoClient = makeGenericClientConstructor(echoService, "Echo");

/** Over TLS, by a name of the front door. */
export function grpcClient(port: number, host: string, authority: string) {
  return new EchoClient(`ipv4:127.0.0.1:${port}`, credentials.createSsl(Buffer.from(authority)), {
    "grpc.ssl_target_name_override": host,
    "grpc.default_authority": host,
    "grpc.max_receive_message_length": -1,
    "grpc.enable_retries": 0,
  });
}
