/** What the service counts, one number a kind; read as the text that Prometheus takes. */
export class Metrics {
  udpQueries = 0;
  tcpQueries = 0;
  /** Answered from the bytes of an answer that was sent before. */
  cachedAnswers = 0;
  privateAnswers = 0;
  forwarded = 0;
  forwardCacheHits = 0;
  upstreamFailures = 0;
  upstreamTimeouts = 0;
  truncated = 0;
  malformed = 0;
  /** Of askers that are neither guests nor the host. */
  refusedSources = 0;
  limited = 0;
  overloaded = 0;
  tcpConnectionsRefused = 0;
  sendErrors = 0;
  namesOpened = 0;
  namesRefused = 0;
  nameFailures = 0;
  /** By the lower four bits of the code. */
  readonly responses = new Uint32Array(16);
}

const help: Readonly<Record<Exclude<keyof Metrics, "responses">, readonly [name: string, text: string]>> = {
  udpQueries: ['queries_total{transport="udp"}', "Queries that came in."],
  tcpQueries: ['queries_total{transport="tcp"}', ""],
  cachedAnswers: [
    "cached_answers_total",
    "Answers to private names that were sent before in the same bytes.",
  ],
  privateAnswers: ["private_answers_total", "Answers to private names that were made."],
  forwarded: ["forwarded_total", "Questions sent to an upstream resolver."],
  forwardCacheHits: ["forward_cache_hits_total", "Questions about public names answered without asking."],
  upstreamFailures: ["upstream_failures_total", "Questions that no upstream resolver answered."],
  upstreamTimeouts: [
    "upstream_timeouts_total",
    "Attempts at one upstream resolver that got no answer in time.",
  ],
  truncated: ["truncated_total", "Answers that were too large for UDP."],
  malformed: ["malformed_total", "Messages that are no query, or a broken one."],
  refusedSources: ["refused_sources_total", "Queries of neither a guest of this host nor the host."],
  limited: ["limited_total", "Queries beyond the rate of their source, which got no answer."],
  overloaded: ["overloaded_total", "Questions refused because too many wait for upstream resolvers."],
  tcpConnectionsRefused: ["tcp_connections_refused_total", "TCP connections beyond a limit."],
  sendErrors: ["send_errors_total", "Answers that the kernel did not take."],
  namesOpened: ["names_opened_total", "Addresses opened to a guest because it was told of an allowed name."],
  namesRefused: ["names_refused_total", "Questions of guests that may not ask for the name."],
  nameFailures: ["name_failures_total", "Answers withheld because their addresses could not be opened."],
};

const codeNames = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

export function renderMetrics(metrics: Metrics, gauges: Readonly<Record<string, number>>): string {
  const lines: string[] = [];
  for (const [key, [name, text]] of Object.entries(help)) {
    const family = `hearth_dns_${name.replace(/\{.*/, "")}`;
    if (text !== "") lines.push(`# HELP ${family} ${text}`, `# TYPE ${family} counter`);
    lines.push(`hearth_dns_${name} ${metrics[key as keyof typeof help]}`);
  }
  lines.push("# HELP hearth_dns_responses_total Answers, by their code.");
  lines.push("# TYPE hearth_dns_responses_total counter");
  metrics.responses.forEach((count, code) => {
    const name = codeNames[code] ?? String(code);
    if (count > 0 || code < codeNames.length)
      lines.push(`hearth_dns_responses_total{rcode="${name}"} ${count}`);
  });
  for (const [name, value] of Object.entries(gauges))
    lines.push(`# TYPE hearth_dns_${name} gauge`, `hearth_dns_${name} ${value}`);
  return `${lines.join("\n")}\n`;
}
