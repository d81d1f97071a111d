/**
 * Places where a worker may die, by name. A drill arms them in a process of its own, kills that process at one of
 * them and looks at what the next worker makes of it. Nothing that a user or a configuration can set arms them, and
 * a point that is not armed costs one comparison.
 *
 * A name says what is just about to happen or has just happened: `<what>.before`, `<what>.after`.
 */
type Visit = (point: string) => void;

let visit: Visit | undefined;

/** Says that the worker is at `point`. With an armed drill, this may not return. */
export function crashPoint(what: string, when: "before" | "after"): void {
  visit?.(`${what}.${when}`);
}

/** For drills only: `visitor` is called at every point from now on; undefined disarms. */
export function armCrashPoints(visitor: Visit | undefined): void {
  visit = visitor;
}
