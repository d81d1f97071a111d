/**
 * What the front door counts as text of OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/). A
 * writer of our own: prom-client keeps its own registry with a lookup by labels for each observation, brings a tracing
 * API along, and what several processes count would have to be put together outside of it.
 */
import { type AppCounts, buckets, type DoorSnapshot, type Histogram } from "./door-metrics.ts";

export const openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const prefix = "hearth_ingress_";

export function openMetrics({ apps, refused, gauges, waiting }: DoorSnapshot): string {
  const lines: string[] = [];
  const family = (name: string, type: string, help: string): void => {
    const unit = /_(seconds|bytes)$/.exec(name)?.[1];
    lines.push(`# TYPE ${prefix}${name} ${type}`);
    if (unit !== undefined) lines.push(`# UNIT ${prefix}${name} ${unit}`);
    lines.push(`# HELP ${prefix}${name} ${help}`);
  };
  const sample = (name: string, labels: Readonly<Record<string, string>>, value: number): void => {
    lines.push(`${prefix}${name}${labelText(labels)} ${value}`);
  };
  const all = Object.entries(apps);
  const histogram = (name: string, help: string, of: (counts: AppCounts) => Histogram): void => {
    family(name, "histogram", help);
    for (const [app, counts] of all) {
      const { counts: found, sum } = of(counts);
      let below = 0;
      for (const [at, count] of found.entries()) {
        below += count;
        const bound = buckets[at];
        sample(`${name}_bucket`, { app, le: bound === undefined ? "+Inf" : String(bound) }, below);
      }
      sample(`${name}_sum`, { app }, Math.round(sum * 1e6) / 1e6);
      sample(`${name}_count`, { app }, below);
    }
  };

  family("requests", "counter", "Requests and connections that are over, by what they were answered with.");
  for (const [app, { requests }] of all)
    for (const [key, count] of Object.entries(requests)) {
      const [kind = "", route = "", code = ""] = key.split(" ");
      sample("requests_total", { app, kind, route, code }, count);
    }
  histogram("request_duration_seconds", "From the request to the end of its answer.", (app) => app.duration);
  histogram("upstream_seconds", "From the choice of a machine until it answered.", (app) => app.upstream);
  histogram("wake_seconds", "That requests waited for a machine to be ready.", (app) => app.wake);
  histogram("queue_seconds", "That requests waited for room at a machine.", (app) => app.queue);
  family("transferred_bytes", "counter", "Bodies of requests and answers, and all of other connections.");
  for (const [app, { bytesIn, bytesOut }] of all) {
    sample("transferred_bytes_total", { app, direction: "in" }, bytesIn);
    sample("transferred_bytes_total", { app, direction: "out" }, bytesOut);
  }
  family("retries", "counter", "Further machines that were tried for a request.");
  for (const [app, { retries }] of all) sample("retries_total", { app }, retries);
  family("refused", "counter", "What the door answered by itself or broke off, by the reason that it logs.");
  for (const [reason, count] of Object.entries(refused)) sample("refused_total", { reason }, count);
  family("waiting_requests", "gauge", "Requests that wait for a machine now.");
  for (const [app, count] of Object.entries(waiting)) sample("waiting_requests", { app }, count);
  for (const [name, value] of Object.entries(gauges)) {
    family(name, "gauge", gaugeHelp[name] ?? name);
    sample(name, {}, value);
  }
  lines.push("# EOF");
  return `${lines.join("\n")}\n`;
}

const gaugeHelp: Readonly<Record<string, string>> = {
  open_connections: "Connections of clients.",
  routed_machines: "Machines that are known here, whatever their state.",
};

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

const escaped = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
